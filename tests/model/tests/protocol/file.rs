//! A file over two and three chunks.

use cairn_model::file::{File, Role};

use crate::judge::{holds, holds_long};

const PLANNED: &str = "planned roll";
const ABOVE: &str = "sealed above the acknowledged";
const UNARRIVED: &str = "sealed before its activation arrived";
const WENT_ON: &str = "writer went on in a new chunk";
const OPENED: &str = "exclusive opened";
const RIVAL: &str = "rival fenced";

fn planned(chunks: usize, writers: [Role; 3]) -> File {
    File { planned: true, ..File::new(chunks, writers) }
}

#[test]
fn two_chunks_two_writers() {
    let model = planned(2, [Role::Plain, Role::Plain, Role::Absent]);
    holds("file, two chunks, two writers", model, &[PLANNED, ABOVE, UNARRIVED, WENT_ON]);
}

#[test]
fn three_chunks_two_writers() {
    let model = planned(3, [Role::Plain, Role::Plain, Role::Absent]);
    let model = File { sequences: 3, chunk_records: 4, ..model };
    holds("file, three chunks, two writers", model, &[PLANNED, ABOVE, UNARRIVED, WENT_ON]);
}

#[test]
fn an_exclusive_writer_takes_over() {
    let model = planned(3, [Role::Plain, Role::Absent, Role::Exclusive]);
    let model = File { sequences: 3, chunk_records: 4, ..model };
    holds("file, an exclusive writer takes over", model, &[PLANNED, ABOVE, WENT_ON, OPENED]);
}

#[test]
fn an_exclusive_writer_takes_over_from_two() {
    let model = planned(3, [Role::Plain, Role::Plain, Role::Exclusive]);
    let model = File { chunk_records: 4, ..model };
    holds("file, an exclusive writer after two", model, &[PLANNED, ABOVE, WENT_ON, OPENED]);
}

/// A roll into a spare, and the end of one that is given up, lead to states that are there without
/// spares too: that is what an activation by what is so then comes to. The bugs are where they do not.
const AHEAD: &str = "made ahead";
const LATE: &str = "made ahead while its tail closes";

#[test]
fn rolls_into_spares() {
    let model = planned(3, [Role::Plain, Role::Plain, Role::Absent]);
    let model = File { spares: true, sequences: 3, ..model };
    holds("file, spares", model, &[AHEAD, LATE, PLANNED, ABOVE, UNARRIVED, WENT_ON]);
}

#[test]
fn an_exclusive_writer_and_spares() {
    let model = planned(3, [Role::Plain, Role::Absent, Role::Exclusive]);
    let model = File { spares: true, sequences: 3, ..model };
    holds("file, spares and an exclusive writer", model, &[AHEAD, LATE, PLANNED, ABOVE, OPENED]);
}

#[test]
fn rivals() {
    let model = planned(3, [Role::Plain, Role::Exclusive, Role::Exclusive]);
    let model = File { sequences: 3, chunk_records: 4, ..model };
    holds("file, rivals after a writer", model, &[PLANNED, ABOVE, WENT_ON, OPENED, RIVAL]);
}

#[test]
fn three_rivals() {
    let model = planned(3, [Role::Exclusive; 3]);
    holds("file, three rivals", model, &[PLANNED, ABOVE, OPENED, RIVAL]);
}

#[test]
fn a_length_covers_all_that_was_acknowledged_before() {
    let model = planned(3, [Role::Plain, Role::Absent, Role::Exclusive]);
    let model = File { asks_length: true, ..model };
    holds("file, lengths", model, &[PLANNED, ABOVE, OPENED, "sealed before its length was answered"]);
}

#[test]
fn long_three_writers() {
    let model = File { chunk_records: 4, ..planned(3, [Role::Plain; 3]) };
    holds_long("file, three writers", model, &[PLANNED, ABOVE, UNARRIVED, WENT_ON]);
}
