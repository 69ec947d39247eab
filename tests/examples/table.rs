//! The table at the end of what a show says.

/// The table at the end of what an example says.
pub(crate) struct Table(Vec<(String, String)>);

impl Table {
    pub(crate) fn of(out: &str) -> Self {
        let (_, table) = out.split_once("\n\n").unwrap_or_else(|| panic!("no table in {out}"));
        let rows = table.lines().map(|line| {
            let (name, value) = line.split_once("  ").unwrap_or_else(|| panic!("a row: {line:?}"));
            (name.to_owned(), value.trim().to_owned())
        });
        Self(rows.collect())
    }

    pub(crate) fn value(&self, name: &str) -> &str {
        let row = self.0.iter().find(|row| row.0 == name);
        row.map_or_else(|| panic!("no {name:?} in {:?}", self.0), |row| &row.1)
    }
}
