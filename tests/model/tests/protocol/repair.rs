//! A sealed chunk: kept, deleted, copied, moved, stored.

use cairn_model::repair::Repair;

use crate::judge::{holds, holds_long};

const COPY: &str = "a copy made";
const REPLACED: &str = "a lost copy replaced";
const MOVED: &str = "moved, copy first";
const DELETED: &str = "who is no holder deleted";
const PULLED: &str = "a lost tail pulled again";
const FOREIGN: &str = "foreign bytes pulled";
const STORED: &str = "persisted";
const DOUBTED: &str = "an object not believed";

#[test]
fn two_replicas_repaired() {
    let model = Repair { orders: 2, crashes: 1, losses: 1, ..Repair::new(2) };
    holds("repair, two replicas", model, &[COPY, REPLACED, MOVED, DELETED, PULLED, FOREIGN]);
}

#[test]
fn three_replicas_repaired() {
    let model = Repair { crashes: 1, losses: 1, ..Repair::new(3) };
    holds("repair, three replicas", model, &[COPY, REPLACED, MOVED, DELETED, PULLED, FOREIGN]);
}

#[test]
fn two_replicas_on_their_way_to_s3() {
    let model = Repair { crashes: 1, losses: 1, bad_puts: 1, ..Repair::new(2) };
    let model = Repair { persists: true, ..model };
    holds("repair, two replicas to S3", model, &[REPLACED, DELETED, STORED, DOUBTED]);
}

#[test]
fn two_replicas_rot_after_the_seal() {
    let model = Repair { crashes: 1, rots: 1, persists: true, ..Repair::new(2) };
    holds("repair, two replicas, rot", model, &[COPY, MOVED, DELETED, PULLED, FOREIGN, STORED, "rot found"]);
}

#[test]
fn two_replicas_retained() {
    let model = Repair { losses: 1, persists: true, unlinked: true, ..Repair::new(2) };
    holds("repair, two replicas retained", model, &[REPLACED, DELETED, STORED, "released"]);
}

#[test]
fn long_three_replicas_repaired_twice() {
    let model = Repair { orders: 2, outsiders: 2, crashes: 1, losses: 2, ..Repair::new(3) };
    holds_long("repair, three replicas twice", model, &[COPY, REPLACED, MOVED, DELETED, PULLED, FOREIGN]);
}
