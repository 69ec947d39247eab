//! What `examples/prometheus` says: alerts and board use the names that the crate exports, with the suffixes of their types.
//!
//! `scripts/look` proves the rest with a real Prometheus.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/prometheus").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(name: &str) -> Yaml {
    let documents = YamlLoader::load_from_str(&read(name)).unwrap();
    let [document] = &documents[..] else { panic!("{name} has {} documents", documents.len()) };
    document.clone()
}

fn board() -> Value {
    serde_json::from_str(&read("grafana.json")).unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Notes which metrics are described to it, and as what.
#[derive(Default)]
struct Described(RefCell<BTreeMap<String, Kind>>);

impl Described {
    fn note(&self, name: &KeyName, kind: Kind, description: &str) {
        assert!(!description.is_empty(), "{} has no description", name.as_str());
        let twice = self.0.borrow_mut().insert(name.as_str().to_owned(), kind);
        assert!(twice.is_none_or(|before| before == kind), "{} is of two kinds", name.as_str());
    }
}

impl Recorder for Described {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.note(&name, Kind::Counter, &description);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.note(&name, Kind::Gauge, &description);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.note(&name, Kind::Histogram, &description);
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// The metrics of the crate.
fn metrics_of_the_crate() -> BTreeMap<String, Kind> {
    let described = Described::default();
    metrics::with_local_recorder(&described, zset_semaphore::metrics::describe);
    let metrics = described.0.into_inner();
    assert!(metrics.len() > 15, "only {} metrics are described", metrics.len());
    metrics
}

/// The names of the series of a metric, as Prometheus has them.
fn series(name: &str, kind: Kind) -> Vec<String> {
    match kind {
        Kind::Counter | Kind::Gauge => vec![name.to_owned()],
        Kind::Histogram => {
            ["_bucket", "_sum", "_count"].iter().map(|suffix| format!("{name}{suffix}")).collect()
        }
    }
}

/// The names of series in a text.
fn names_in(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("zsem_")).map(str::to_owned)
}

fn alerts() -> Vec<Yaml> {
    let groups = yaml("alerts.yml")["groups"].as_vec().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_vec().unwrap().clone()).collect()
}

fn panels() -> Vec<Value> {
    let panels = board()["panels"].as_array().unwrap().clone();
    panels.into_iter().filter(|panel| panel["type"] != "row").collect()
}

/// All expressions of alerts and board, and the query of the variable.
fn expressions() -> Vec<String> {
    let of_alerts = alerts().into_iter().map(|alert| alert["expr"].as_str().unwrap().to_owned());
    let of_panels = panels().into_iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().unwrap().clone();
        targets.into_iter().map(|target| target["expr"].as_str().unwrap().to_owned())
    });
    let definition = board()["templating"]["list"][1]["definition"].as_str().unwrap().to_owned();
    of_alerts.chain(of_panels).chain([definition]).collect()
}

#[test]
fn alerts_and_board_use_the_names_of_the_crate_with_the_suffixes_of_their_types() {
    let metrics = metrics_of_the_crate();
    let known: BTreeSet<_> = metrics.iter().flat_map(|(name, &kind)| series(name, kind)).collect();
    for expression in expressions() {
        let names: Vec<_> = names_in(&expression).collect();
        assert!(!names.is_empty(), "no metric in: {expression}");
        let unknown: Vec<_> = names.iter().filter(|&name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?} in: {expression}");
    }
    // The tests of the alerts feed series, which must be those that exist, too.
    let unknown: Vec<_> =
        names_in(&read("alerts_test.yml")).filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} in alerts_test.yml");
}

#[test]
fn every_metric_of_the_crate_is_on_the_board_or_in_an_alert() {
    let used: BTreeSet<_> = expressions().iter().flat_map(|text| names_in(text)).collect();
    let metrics = metrics_of_the_crate();
    let unused = |&(name, kind): &(&String, &Kind)| {
        !series(name, *kind).iter().any(|series| used.contains(series))
    };
    let unused: Vec<_> = metrics.iter().filter(unused).collect();
    assert!(unused.is_empty(), "nobody looks at {unused:?}");
}

#[test]
fn every_alert_says_what_to_do_and_is_tested() {
    let tests = read("alerts_test.yml");
    yaml("alerts_test.yml");
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let severity = alert["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("warning" | "critical")), "{name}: {severity:?}");
        for annotation in ["summary", "description", "runbook"] {
            let text = alert["annotations"][annotation].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{name} has no {annotation}");
        }
        let fires = format!(r#"ALERTS{{alertname="{name}", alertstate="firing""#);
        assert!(tests.contains(&fires), "no test lets {name} fire");
    }
}

#[test]
fn the_configuration_loads_the_alerts() {
    let config = yaml("prometheus.yml");
    assert_eq!(config["rule_files"][0].as_str(), Some("alerts.yml"));
    assert_eq!(yaml("alerts_test.yml")["rule_files"][0].as_str(), Some("alerts.yml"));
}

#[test]
fn the_board_asks_the_data_source_that_is_chosen_and_its_panels_do_not_overlap() {
    let board = board();
    assert!(board["uid"].is_null() && board["id"].is_null(), "they may clash with another board");
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in board["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: the id is taken");
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is too wide");
        let all = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
        for cell in all {
            assert!(cells.insert(cell), "{title} overlaps another panel");
        }
    }
    for panel in panels() {
        let asked = panel["targets"].as_array().unwrap().iter().chain([&panel]);
        for source in asked.map(|asked| &asked["datasource"]["uid"]) {
            assert_eq!(source, "${datasource}", "{}", panel["title"]);
        }
    }
}
