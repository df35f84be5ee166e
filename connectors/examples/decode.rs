//! Decodes files and sums their values, nothing more: the pace that `truegauge replay` can't exceed.
//!
//! Usage: `cargo run --release --example decode -- FILE… [quality=COLUMN] [rows=N]`

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use connectors::Source;
use connectors::source::file::{FileSource, FilesConfig};
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut paths, mut config, mut batch_rows) = (Vec::new(), FilesConfig::default(), 65_536);
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("quality", column)) => config.quality = Some(column.to_owned()),
            Some(("rows", rows)) => batch_rows = rows.parse()?,
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    let began = Instant::now();
    let mut source = FileSource::open(&paths, &config, batch_rows)?;
    let (mut rows, mut sum) = (0, 0.0);
    while let Some(polled) = source.poll(Duration::MAX)? {
        rows += polled.batch.num_rows();
        let value = polled.batch.column_by_name("value").and_then(|v| v.as_primitive_opt::<Float64Type>());
        sum += value.map_or(0.0, |v| v.values().iter().sum::<f64>());
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{rows} rows, sum {sum:e}, {seconds:.3} s, {:.1} M rows/s", rows as f64 / seconds / 1e6);
    Ok(())
}
