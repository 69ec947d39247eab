//! What is logged, kept for a test to read.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, MutexGuard, Once};

use tracing::field::{Field, Visit};
use tracing::subscriber::{DefaultGuard, Interest, set_default, set_global_default};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// The lines that a thread logs, by level, and its spans.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    keeps: fn(&Metadata<'_>) -> bool,
    lines: Arc<Mutex<Vec<(Level, String)>>>,
    spans: Arc<Mutex<Vec<SeenSpan>>>,
}

/// A span that was begun.
#[derive(Debug, Clone)]
pub(crate) struct SeenSpan {
    pub(crate) level: Level,
    pub(crate) name: &'static str,
    /// Each as `name=value `.
    pub(crate) fields: String,
    pub(crate) closed: bool,
    /// How often it was entered.
    pub(crate) entered: usize,
    /// How many there are of it.
    handles: usize,
}

impl Log {
    /// Keeps what `keeps` tells of all that this thread logs, until the guard is dropped.
    pub(crate) fn of_this_thread(keeps: fn(&Metadata<'_>) -> bool) -> (Self, DefaultGuard) {
        static OTHER_THREADS: Once = Once::new();
        OTHER_THREADS.call_once(|| set_global_default(Silence).expect("nobody else sets one"));
        let log = Self { keeps, lines: Arc::default(), spans: Arc::default() };
        let guard = set_default(log.clone());
        (log, guard)
    }

    /// How many lines of `level` have `words` in them.
    pub(crate) fn count(&self, level: Level, words: &str) -> usize {
        self.lines().iter().filter(|(at, line)| *at == level && line.contains(words)).count()
    }

    /// All lines since the last call.
    pub(crate) fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut *self.lines())
    }

    /// The spans that were begun, in their order.
    pub(crate) fn spans(&self) -> Vec<SeenSpan> {
        self.spans.lock().unwrap().clone()
    }

    fn span<T>(&self, id: &span::Id, change: impl FnOnce(&mut SeenSpan) -> T) -> T {
        change(&mut self.spans.lock().unwrap()[id.into_u64() as usize - 1])
    }

    fn lines(&self) -> MutexGuard<'_, Vec<(Level, String)>> {
        self.lines.lock().unwrap()
    }
}

/// What all other threads log.
///
/// `tracing` asks a lone subscriber for its interest in an event on the thread that is the first to log that event.
/// Without a subscriber for the other threads, one of them could end the interest in the name of all.
struct Silence;

impl Subscriber for Silence {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        (self.keeps)(metadata)
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut text = Text(String::new());
        attributes.record(&mut text);
        let (level, name) = (*attributes.metadata().level(), attributes.metadata().name());
        let mut spans = self.spans.lock().unwrap();
        spans.push(SeenSpan { level, name, fields: text.0, closed: false, entered: 0, handles: 1 });
        span::Id::from_u64(spans.len() as u64)
    }
    fn record(&self, id: &span::Id, values: &span::Record<'_>) {
        let mut text = Text(String::new());
        values.record(&mut text);
        self.span(id, |span| span.fields += &text.0);
    }
    fn clone_span(&self, id: &span::Id) -> span::Id {
        self.span(id, |span| span.handles += 1);
        id.clone()
    }
    fn try_close(&self, id: span::Id) -> bool {
        self.span(&id, |span| {
            span.handles -= 1;
            span.closed = span.handles == 0;
            span.closed
        })
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.lines().push((*event.metadata().level(), text.0));
    }
    fn enter(&self, id: &span::Id) {
        self.span(id, |span| span.entered += 1);
    }
    fn exit(&self, _: &span::Id) {}
}
