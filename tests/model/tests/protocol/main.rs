//! The protocol holds in every state of the bounded models, and every deliberate bug is caught.
//!
//! `CAIRN_LONG=1` adds the big sweeps. `--nocapture` shows the counts and the traces.

#![allow(clippy::disallowed_methods, reason = "measures real time")]

mod complete;
mod explorer;
mod file;
mod file_bugs;
mod grant;
mod grant_bugs;
mod judge;
mod limits;
mod one_chunk;
mod one_chunk_bugs;
mod one_chunk_memory;
mod repair;
mod repair_bugs;
