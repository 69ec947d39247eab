//! A recorder of metrics that a test reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, LocalRecorderGuard,
    Metadata, Recorder, SharedString, Unit, set_default_local_recorder,
};

/// What was recorded. A series goes by the name of its metric and the values of its labels, without empty ones:
/// `zsem_lost_total jobs kicked`.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
    histograms: BTreeMap<String, Vec<f64>>,
    /// The type of each metric, and the keys of its labels.
    registered: BTreeMap<String, BTreeSet<String>>,
    described: BTreeMap<String, (Option<Unit>, String)>,
}

impl Record {
    /// Records what this thread registers from now on, until the test ends.
    pub(crate) fn of_this_thread() -> (&'static Self, LocalRecorderGuard<'static>) {
        let record: &'static Self = Box::leak(Box::default());
        (record, set_default_local_recorder(record))
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of a metric that are not 0, by their labels.
    pub(crate) fn counts(&self, metric: &str) -> BTreeMap<String, u64> {
        let recorded = self.recorded();
        let counted = recorded.counters.iter().filter(|(_, count)| **count > 0);
        counted.filter_map(|(series, count)| Some((labels(series, metric)?, *count))).collect()
    }

    /// How many values each histogram of a metric has, by its labels.
    pub(crate) fn observed(&self, metric: &str) -> BTreeMap<String, u64> {
        let values = self.values(metric).into_iter();
        values.map(|(labels, values)| (labels, values.len() as u64)).collect()
    }

    /// The values of each histogram of a metric that has some, by its labels.
    pub(crate) fn values(&self, metric: &str) -> BTreeMap<String, Vec<f64>> {
        let recorded = self.recorded();
        let some = recorded.histograms.iter().filter(|(_, values)| !values.is_empty());
        some.filter_map(|(series, values)| Some((labels(series, metric)?, values.clone())))
            .collect()
    }

    /// The value of a gauge.
    pub(crate) fn gauge(&self, series: &str) -> f64 {
        let value = self.recorded().gauges.get(series).copied();
        value.unwrap_or_else(|| panic!("no gauge {series}"))
    }

    /// All gauges, by their series.
    pub(crate) fn gauges(&self) -> BTreeMap<String, f64> {
        self.recorded().gauges.clone()
    }

    /// The gauges that are not 0.
    pub(crate) fn gauges_left(&self) -> BTreeMap<String, f64> {
        self.gauges().into_iter().filter(|(_, value)| *value != 0.0).collect()
    }

    /// All metrics of which something was registered.
    pub(crate) fn registered(&self) -> BTreeSet<String> {
        self.recorded().registered.keys().cloned().collect()
    }

    /// The types of each metric of which something was registered, each with the keys of its labels in order:
    /// `counter reason semaphore`.
    pub(crate) fn shapes(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.recorded().registered.clone()
    }

    /// The unit and the description of each metric that was described.
    pub(crate) fn described(&self) -> BTreeMap<String, (Option<Unit>, String)> {
        self.recorded().described.clone()
    }

    fn register(&self, kind: &str, key: &Key) -> Series {
        let keys: BTreeSet<_> = key.labels().map(|label| label.key()).collect();
        let shape = [kind].into_iter().chain(keys).collect::<Vec<_>>().join(" ");
        self.recorded().registered.entry(key.name().to_owned()).or_default().insert(shape);
        let labels = key.labels().map(|label| label.value()).filter(|value| !value.is_empty());
        let series = [key.name()].into_iter().chain(labels).collect::<Vec<_>>().join(" ");
        Series { series, record: self.clone() }
    }

    fn describe(&self, key: &KeyName, unit: Option<Unit>, description: &SharedString) {
        let described = (unit, description.to_string());
        self.recorded().described.insert(key.as_str().to_owned(), described);
    }
}

/// The labels of a series, if it is of the metric.
fn labels(series: &str, metric: &str) -> Option<String> {
    let rest = series.strip_prefix(metric)?;
    (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim_start().to_owned())
}

struct Series {
    series: String,
    record: Record,
}

impl Series {
    fn move_gauge(&self, change: impl FnOnce(f64) -> f64) {
        let mut recorded = self.record.recorded();
        let value = recorded.gauges.entry(self.series.clone()).or_default();
        *value = change(*value);
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        *self.record.recorded().counters.entry(self.series.clone()).or_default() += value;
    }
    fn absolute(&self, _: u64) {
        panic!("a counter that others count, too, is not set");
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.move_gauge(|before| before + value);
    }
    fn decrement(&self, value: f64) {
        self.move_gauge(|before| before - value);
    }
    fn set(&self, _: f64) {
        panic!("a gauge that others move, too, is not set");
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.record.recorded().histograms.entry(self.series.clone()).or_default().push(value);
    }
}

impl Recorder for Record {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }
    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }
    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(self.register("counter", key)))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let series = self.register("gauge", key);
        series.move_gauge(|value| value);
        Gauge::from_arc(Arc::new(series))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(self.register("histogram", key)))
    }
}
