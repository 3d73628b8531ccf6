//! Space: chunks that share one bound.

use cairn_model::grant::Grants;

use crate::judge::holds;

const WHOLE: &str = "granted a whole chunk";
const FULL_FENCE: &str = "fenced on a full disk";
const REST: &str = "the seal returned the rest";
const LAST: &str = "opened on the last byte";
const WRITTEN: &str = "all is written";

#[test]
fn two_chunks() {
    let model = Grants::new(2, 5);
    holds("grants, two chunks", model, &[WHOLE, FULL_FENCE, REST, LAST, WRITTEN]);
}

#[test]
fn three_chunks_under_a_tight_bound() {
    let model = Grants { chunk_bytes: 2, ..Grants::new(3, 4) };
    holds("grants, three chunks", model, &[WHOLE, FULL_FENCE, REST, LAST, WRITTEN]);
}

#[test]
fn three_chunks() {
    holds("grants, three whole chunks", Grants::new(3, 7), &[WHOLE, FULL_FENCE, REST, WRITTEN]);
}
