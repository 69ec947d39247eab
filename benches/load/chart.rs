//! A bar chart as SVG, drawn by hand: groups of bars, each bar with its figure. Pure.

use std::fmt::Write;

/// Bars side by side, in the order of the chart's series.
pub(crate) struct Group {
    pub(crate) label: String,
    pub(crate) figures: Vec<f64>,
}

pub(crate) struct Chart {
    pub(crate) title: String,
    /// What the figures are multiples of: a line is drawn at 1.
    pub(crate) unit: String,
    pub(crate) series: Vec<&'static str>,
    pub(crate) groups: Vec<Group>,
}

const COLORS: [&str; 6] = ["#2f6fdb", "#9aa5b1", "#c9a227", "#5aa469", "#b5651d", "#7d5ba6"];
const BAR: f64 = 26.0;
const GAP: f64 = 34.0;
const LEFT: f64 = 24.0;
const TOP: f64 = 78.0;
const HEIGHT: f64 = 190.0;

impl Chart {
    pub(crate) fn to_svg(&self) -> String {
        let group_width = BAR * self.series.len() as f64 + GAP;
        let width = LEFT * 2.0 + group_width * self.groups.len() as f64;
        let figures = self.groups.iter().flat_map(|group| &group.figures);
        let highest = figures.copied().fold(1.0, f64::max) * 1.08;
        let y = |figure: f64| TOP + HEIGHT * (1.0 - figure / highest);
        let mut svg = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(svg, "{text}"); // a String takes all
        };
        let bottom = TOP + HEIGHT;
        line(format_args!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {:.0}" font-family="sans-serif" font-size="11" fill="#333">"##,
            bottom + 30.0
        ));
        line(format_args!(r##"<rect width="100%" height="100%" fill="#fff"/>"##));
        line(format_args!(
            r#"<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{}</text>"#,
            self.title
        ));
        line(format_args!(r#"<text x="{LEFT}" y="38">{}</text>"#, self.unit));
        let mut legend = LEFT;
        for (label, color) in self.series.iter().zip(COLORS) {
            line(format_args!(
                r#"<rect x="{legend:.0}" y="50" width="10" height="10" fill="{color}"/><text x="{:.0}" y="59">{label}</text>"#,
                legend + 14.0
            ));
            legend += 30.0 + 6.2 * label.len() as f64;
        }
        for (index, group) in self.groups.iter().enumerate() {
            let left = LEFT + group_width * index as f64 + GAP / 2.0;
            for (bar, (figure, color)) in group.figures.iter().zip(COLORS).enumerate() {
                let (x, top) = (left + BAR * bar as f64, y(*figure));
                line(format_args!(
                    r#"<rect x="{x:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{color}"/><text x="{:.1}" y="{:.1}" text-anchor="middle">{figure:.2}</text>"#,
                    BAR - 3.0,
                    bottom - top,
                    x + BAR / 2.0 - 1.5,
                    top - 4.0
                ));
            }
            line(format_args!(
                r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                left + (group_width - GAP) / 2.0,
                bottom + 18.0,
                group.label
            ));
        }
        line(format_args!(
            r##"<line x1="{LEFT}" x2="{:.0}" y1="{one:.1}" y2="{one:.1}" stroke="#333" stroke-dasharray="3 3"/>"##,
            width - LEFT,
            one = y(1.0)
        ));
        line(format_args!("</svg>"));
        svg
    }
}
