//! The project's chores: `cargo xtask VERB`.

use anyhow::{Result, bail};

mod schema;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["schema", definitions] => schema::run(definitions.as_ref()),
        _ => bail!("usage: cargo xtask schema DEFINITIONS"),
    }
}
