//! The plots, as SVG: duly beside each peer, how cost grows, and the waits of mixed work.
//!
//! Kept true: a plot shows medians of the results and nothing else; a plot with nothing to show is not written.

use crate::peers::Peer;
use crate::report::{number, words};
use crate::results::Results;
use crate::rows::Row;
use crate::stats::summary;
use crate::verdict;
use anyhow::{Result, anyhow};
use plotters::chart::SeriesLabelPosition;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::{Path, PathBuf};

const WIDTH: u32 = 900;
const INK: RGBColor = RGBColor(60, 60, 60);
const FAINT: RGBColor = RGBColor(225, 225, 225);

fn colour(peer: Peer) -> RGBColor {
    match peer {
        Peer::Duly => RGBColor(0, 0, 0),
        Peer::DulyC => RGBColor(90, 90, 90),
        Peer::Crossbeam => RGBColor(213, 94, 0),
        Peer::Kanal => RGBColor(230, 159, 0),
        Peer::Threadpool => RGBColor(153, 153, 153),
        Peer::Rayon => RGBColor(204, 121, 167),
        Peer::Tokio => RGBColor(0, 114, 178),
        Peer::TokioSpawn => RGBColor(86, 180, 233),
        Peer::Go => RGBColor(0, 158, 115),
        Peer::Libuv => RGBColor(120, 90, 200),
        Peer::Tbb => RGBColor(150, 75, 40),
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes every plot these results have something for, and says which.
pub(crate) fn write(results: &Results, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    let mut plot = |name: &str, draw: fn(&Results, &Path) -> Result<bool>| {
        let path = folder.join(name);
        if draw(results, &path)? {
            written.push(path);
        }
        anyhow::Ok(())
    };
    plot("peers.svg", peers)?;
    plot("growth.svg", growth)?;
    plot("mixed.svg", mixed)?;
    Ok(written)
}

fn median(results: &Results, row: &Row, peer: Peer, figure: &str) -> Option<f64> {
    let values = results.values(&row.name, peer, figure);
    summary(&values.iter().map(|(_, value)| *value).collect::<Vec<_>>()).map(|summary| summary.median)
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Errors of plotters borrow the drawing; their words are enough.
fn drawn<T, E: std::fmt::Display>(result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| anyhow!("a plot cannot be drawn: {error}"))
}

/// For each row a line, and on it each peer at (peer / duly): to the right of 1, duly is faster or smaller.
fn peers(results: &Results, path: &Path) -> Result<bool> {
    let mut lines: Vec<(String, Vec<(Peer, f64)>)> = Vec::new();
    for row in results
        .rows()
        .into_iter()
        .filter(|row| row.point.is_none() && row.name != "mixed")
    {
        let figure = &row.figures[0];
        let times = |&peer: &Peer| Some((peer, 1.0 / verdict::ratio(results, row, peer, figure)?.median));
        let ratios: Vec<_> = row
            .peers
            .iter()
            .filter(|peer| **peer != Peer::Duly)
            .filter_map(times)
            .filter(|(_, ratio)| ratio.is_finite() && *ratio > 0.0)
            .collect();
        if !ratios.is_empty() {
            lines.push((format!("{}, {}", row.name, words(figure)), ratios));
        }
    }
    if lines.is_empty() {
        return Ok(false);
    }
    let all = || {
        lines
            .iter()
            .flat_map(|(_, ratios)| ratios.iter().map(|(_, ratio)| *ratio))
    };
    let (low, high) = (all().fold(0.5, f64::min) / 1.2, all().fold(2.0, f64::max) * 1.3);
    let rows = lines.len() as f64;
    let height = 26 * lines.len() as u32 + 150;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    drawn(area.fill(&WHITE))?;
    let title = "The peers' figure as a multiple of duly's (median of pairs; right of the line duly is ahead)";
    let mut chart = drawn(
        ChartBuilder::on(&area)
            .caption(title, text(18))
            .margin(12)
            .margin_bottom(52)
            .x_label_area_size(30)
            .y_label_area_size(190)
            .build_cartesian_2d((low..high).log_scale(), -rows..0.0),
    )?;
    drawn(
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .bold_line_style(FAINT)
            .light_line_style(WHITE)
            .x_label_formatter(&|x| format!("{x}x"))
            .label_style(text(14))
            .draw(),
    )?;
    drawn(chart.draw_series([PathElement::new(vec![(1.0, -rows), (1.0, 0.0)], BLACK.stroke_width(2))]))?;
    for (at, (name, ratios)) in lines.iter().enumerate() {
        let y = -(at as f64) - 0.5;
        drawn(chart.draw_series([PathElement::new(vec![(low, y), (high, y)], FAINT)]))?;
        let dots = ratios
            .iter()
            .map(|(peer, ratio)| Circle::new((*ratio, y), 5, colour(*peer).filled()));
        drawn(chart.draw_series(dots))?;
        let (_, pixel) = chart.backend_coord(&(low, y));
        drawn(area.draw(&Text::new(name.clone(), (14, pixel - 7), text(15))))?;
    }
    let shown: Vec<Peer> = Peer::ALL
        .iter()
        .copied()
        .filter(|peer| {
            lines
                .iter()
                .any(|(_, ratios)| ratios.iter().any(|(who, _)| who == peer))
        })
        .collect();
    legend(&area, &shown, height)?;
    drawn(area.present())?;
    Ok(true)
}

fn legend(area: &Area<'_>, shown: &[Peer], height: u32) -> Result<()> {
    let y = height as i32 - 24;
    for (at, peer) in shown.iter().enumerate() {
        let x = 40 + 92 * at as i32;
        drawn(area.draw(&Circle::new((x, y), 5, colour(*peer).filled())))?;
        drawn(area.draw(&Text::new(peer.name(), (x + 10, y - 7), text(15))))?;
    }
    Ok(())
}

/// One panel a curve: the figure over the point, both on log scales.
fn growth(results: &Results, path: &Path) -> Result<bool> {
    let rows = results.rows();
    let mut names: Vec<&str> = rows
        .iter()
        .filter_map(|row| row.point.as_ref().map(|(curve, _)| curve.as_str()))
        .collect();
    names.dedup();
    if names.is_empty() {
        return Ok(false);
    }
    let area = SVGBackend::new(path, (WIDTH, 260 * names.len() as u32)).into_drawing_area();
    drawn(area.fill(&WHITE))?;
    for (panel, name) in area.split_evenly((names.len(), 1)).iter().zip(&names) {
        let points: Vec<(&Row, f64)> = rows
            .iter()
            .filter_map(|row| match &row.point {
                // A log scale has no 0.
                Some((curve, at)) if curve == name => Some((*row, (*at as f64).max(1.0))),
                _ => None,
            })
            .collect();
        curve(results, panel, name, &points)?;
    }
    drawn(area.present())?;
    Ok(true)
}

fn curve(results: &Results, panel: &Area<'_>, name: &str, points: &[(&Row, f64)]) -> Result<()> {
    let figure = &points[0].0.figures[0];
    let line = |peer: Peer| -> Vec<(f64, f64)> {
        points
            .iter()
            .filter_map(|(row, at)| Some((*at, median(results, row, peer, figure)?)))
            .collect()
    };
    let lines: Vec<(Peer, Vec<(f64, f64)>)> = points[0].0.peers.iter().map(|peer| (*peer, line(*peer))).collect();
    let values = || lines.iter().flat_map(|(_, line)| line.iter().map(|(_, value)| *value));
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
    if high <= 0.0 {
        return Ok(());
    }
    let last = points.last().map_or(1.0, |(_, at)| *at).max(2.0);
    let mut chart = drawn(
        ChartBuilder::on(panel)
            .caption(format!("{}, by {}", words(figure), explained(name)), text(18))
            .margin(10)
            .margin_right(36)
            .x_label_area_size(28)
            .y_label_area_size(60)
            .build_cartesian_2d((points[0].1..last).log_scale(), (low / 1.5..high * 1.5).log_scale()),
    )?;
    drawn(
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(WHITE)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| number(*y))
            .label_style(text(14))
            .draw(),
    )?;
    for (peer, line) in lines {
        let stroke = colour(peer).stroke_width(if peer == Peer::Duly { 3 } else { 2 });
        let dots: Vec<_> = line
            .iter()
            .map(|at| Circle::new(*at, 3, colour(peer).filled()))
            .collect();
        drawn(chart.draw_series(LineSeries::new(line, stroke)))?
            .label(peer.name())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], stroke));
        drawn(chart.draw_series(dots))?;
    }
    drawn(
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(text(14))
            .draw(),
    )
}

fn explained(curve: &str) -> &str {
    match curve {
        "workers" => "the number of workers",
        "queues" => "the number of queues",
        "queued" => "how many tasks stand in the queue",
        "pending" => "how many tasks with a deadline stand in the queue (0 shown at 1)",
        other => other,
    }
}

/// The wait for a worker by its quantile, a line a peer.
fn mixed(results: &Results, path: &Path) -> Result<bool> {
    const QUANTILES: [(&str, &str); 3] = [
        ("wait_p50_us", "p50"),
        ("wait_p99_us", "p99"),
        ("wait_p999_us", "p99.9"),
    ];
    let Some(row) = results.rows().into_iter().find(|row| row.name == "mixed") else {
        return Ok(false);
    };
    let line = |&peer: &Peer| {
        let values: Vec<f64> = QUANTILES
            .iter()
            .filter_map(|(figure, _)| median(results, row, peer, figure))
            .collect();
        (values.len() == QUANTILES.len()).then_some((peer, values))
    };
    let lines: Vec<(Peer, Vec<f64>)> = row.peers.iter().filter_map(line).collect();
    let values = || lines.iter().flat_map(|(_, values)| values.iter().copied());
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
    if high <= 0.0 {
        return Ok(false);
    }
    let area = SVGBackend::new(path, (WIDTH, 320)).into_drawing_area();
    drawn(area.fill(&WHITE))?;
    let mut chart = drawn(
        ChartBuilder::on(&area)
            .caption(
                "Mixed work: wait from the arrival of its burst until a task starts, µs",
                text(18),
            )
            .margin(10)
            .x_label_area_size(28)
            .y_label_area_size(70)
            .build_cartesian_2d(-0.5..QUANTILES.len() as f64 - 0.5, (low / 1.5..high * 1.5).log_scale()),
    )?;
    drawn(
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(FAINT)
            .light_line_style(WHITE)
            .x_labels(QUANTILES.len())
            .y_labels(4)
            .x_label_formatter(&|x| QUANTILES.get(x.round() as usize).map_or("", |(_, name)| name).into())
            .y_label_formatter(&|y| number(*y))
            .label_style(text(14))
            .draw(),
    )?;
    let count = lines.len() as f64;
    for (at, (peer, values)) in lines.into_iter().enumerate() {
        let shift = (at as f64 + 0.5) / count * 0.6 - 0.3;
        let bar = move |(quantile, value): (usize, f64)| {
            let x = quantile as f64 + shift;
            let half = 0.25 / count;
            Rectangle::new([(x - half, low / 1.5), (x + half, value)], colour(peer).filled())
        };
        drawn(chart.draw_series(values.into_iter().enumerate().map(bar)))?
            .label(peer.name())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour(peer).filled()));
    }
    drawn(
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(text(14))
            .draw(),
    )?;
    drawn(area.present())?;
    Ok(true)
}
