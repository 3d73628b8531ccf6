//! A dump: the namespace at one point in time as JSON lines. docs/DUMP.md is its description.
//!
//! ```text
//! header   which format, which cluster, at which point of its log
//! facts    one a line (`namespace/facts`)
//! end      how many there were, and a checksum of all lines before it
//! ```

mod line;
mod reader;
#[cfg(test)]
mod tests;
mod verify;

pub use line::{DumpLines, End, FORMAT, Header, VERSION, fact};
pub use reader::{DumpError, DumpReader, LINE_BYTES_MAX, Line};
pub use verify::{Losses, Verified, VerifyError, verify};
