//! `truegauge schema`: the JSON Schema of the configuration file, for editors.

use super::CommandError;

/// Prints the schema on standard output.
///
/// # Errors
/// When it can't be encoded.
pub fn run() -> Result<(), CommandError> {
    let schema = schemars::schema_for!(crate::config::FileConfig);
    println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}
