use super::*;
use cairn_types::{FileKind, Generation, Timestamp};

const SESSION: SessionId = SessionId(1);
const LIMIT: Duration = Duration::from_secs(5);

fn inode(ino: u64, nlink: u32) -> Inode {
    let at = Timestamp(0);
    Inode {
        ino: InodeId(ino),
        kind: FileKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        nlink,
        size: 0,
        mtime: at,
        ctime: at,
        atime: at,
        btime: at,
        version: 1,
        generation: Generation(0),
        tail: None,
        target: None,
        policy: None,
        mount: None,
    }
}

fn unlinked(ino: u64, log_index: u64) -> v1::UnlinkedFile {
    v1::UnlinkedFile { ino, log_index }
}

async fn open(files: &OpenFiles, ino: u64, seen_at: u64) -> Option<OpenFile> {
    files.opening(LIMIT).await.unwrap().found(&inode(ino, 1), LogIndex(seen_at))
}

fn tell(files: &OpenFiles) -> v1::HoldAnswer {
    let answer = files.to_tell(SESSION).expect("something to tell");
    files.told(SESSION, &answer);
    answer
}

fn answer(number: u64, upto: u64, held: &[u64], released: &[u64]) -> v1::HoldAnswer {
    v1::HoldAnswer { number, upto, held: held.to_vec(), released: released.to_vec() }
}

#[tokio::test]
async fn a_file_is_in_the_answer_or_is_not_opened_by_what_was_before_it() {
    let files = OpenFiles::new(SESSION);
    let before = files.opening(LIMIT).await.unwrap();
    let late = files.opening(LIMIT).await.unwrap();
    // Both found the file before it was unlinked by entry 20; one is in time for the question.
    let handle = before.found(&inode(7, 1), LogIndex(10)).expect("nothing was denied yet");
    assert!(files.answer(SESSION, &[unlinked(7, 20), unlinked(8, 21)], 30));
    assert!(late.found(&inode(8, 1), LogIndex(10)).is_none(), "8 is denied by now");
    assert!(late.found(&inode(9, 1), LogIndex(29)).is_none(), "it may have been unlinked since");
    assert!(late.found(&inode(9, 1), LogIndex(30)).is_some(), "it had a name then");
    assert!(late.found(&inode(9, 0), LogIndex(31)).is_none(), "nobody here holds it");
    let again = late.found(&inode(7, 0), LogIndex(31)).expect("it is held");
    assert_eq!(tell(&files), answer(1, 30, &[7], &[]));
    assert!(files.to_tell(SESSION).is_none());
    drop(handle);
    assert!(files.to_tell(SESSION).is_none(), "another handle has it");
    drop(again);
    files.woken().await;
    assert_eq!(tell(&files), answer(2, 30, &[], &[7]));
    assert!(late.found(&inode(7, 0), LogIndex(40)).is_none());
}

#[tokio::test]
async fn what_was_made_may_be_as_old_as_the_question_before_it() {
    let files = OpenFiles::new(SESSION);
    let first = files.opening(LIMIT).await.unwrap();
    assert!(first.made(&inode(7, 1)).is_some());
    assert!(files.answer(SESSION, &[unlinked(7, 5)], 5));
    assert!(first.made(&inode(8, 1)).is_none(), "its answer may have been given before that");
    assert!(files.opening(LIMIT).await.unwrap().made(&inode(8, 1)).is_some());
}

#[tokio::test]
async fn what_is_told_is_told_until_it_is_taken_and_a_file_closed_meanwhile_is_not_held() {
    let files = OpenFiles::new(SESSION);
    let (seven, eight) = (open(&files, 7, 1).await, open(&files, 8, 1).await);
    assert!(files.answer(SESSION, &[unlinked(7, 20), unlinked(8, 20)], 20));
    assert_eq!(files.to_tell(SESSION), Some(answer(1, 20, &[7, 8], &[])));
    drop(seven);
    // The first may have come, or not: this says the same in both cases.
    let second = files.to_tell(SESSION).unwrap();
    assert_eq!(second, answer(2, 20, &[8], &[7]));
    // The servers ask again: they have not got it.
    assert!(files.answer(SESSION, &[unlinked(7, 20), unlinked(8, 20)], 21));
    assert_eq!(tell(&files), answer(3, 21, &[8], &[7]));
    drop(eight);
    assert_eq!(tell(&files), answer(4, 21, &[], &[8]));
    assert!(files.to_tell(SESSION).is_none());
    assert!(files.to_tell(SessionId(2)).is_none() && !files.answer(SessionId(2), &[], 50));
}

#[tokio::test]
async fn more_than_an_answer_takes_is_answered_in_parts_and_beyond_all_bounds_not_at_all() {
    let files = OpenFiles::new(SESSION);
    let opening = files.opening(LIMIT).await.unwrap();
    let all = u64::from(HELD_UNLINKED_MAX) + 2;
    let mut handles: Vec<_> = (1..=all).map(|ino| opening.found(&inode(ino, 1), LogIndex(1))).collect();
    let asked: Vec<_> = (1..=all).map(|ino| unlinked(ino, 100 + ino)).collect();
    let mut next = 0;
    while files.answer(SESSION, &asked[next..], 9999) {
        let told = tell(&files);
        assert_eq!(told.held.len(), HOLDS_PER_ANSWER_MAX);
        next += told.held.len();
        assert_eq!(told.upto, 100 + next as u64, "what was unlinked by the next entry stays");
    }
    assert_eq!(next as u64, u64::from(HELD_UNLINKED_MAX));
    assert!(files.to_tell(SESSION).is_none(), "the rest stays without a word");
    handles.drain(..2);
    assert_eq!(tell(&files).released, [1, 2]);
    assert!(files.answer(SESSION, &asked[next..], 9999));
    assert_eq!(tell(&files).upto, 9999);
}

#[tokio::test]
async fn a_removal_says_what_is_open_and_nothing_is_opened_meanwhile() {
    let files = OpenFiles::new(SESSION);
    let handle = open(&files, 7, 1).await;
    let claim = files.claim().unwrap();
    assert_eq!(claim.wire(SESSION), Some(v1::Holding { number: 0, inos: vec![7] }));
    assert_eq!(claim.wire(SessionId(2)), None);
    let waiting = tokio::spawn({
        let files = files.clone();
        async move { files.opening(LIMIT).await.unwrap() }
    });
    while files.table().openings == 0 {
        tokio::task::yield_now().await;
    }
    assert!(files.claim().is_none(), "who waits to open a file does not wait for ever");
    assert!(!waiting.is_finished());
    claim.settle();
    drop(waiting.await.unwrap());
    assert!(files.claim().is_some() && handle.is_some());
}

#[tokio::test]
async fn after_a_removal_of_unknown_outcome_an_answer_comes_before_the_next_file() {
    let files = OpenFiles::new(SESSION);
    drop(files.claim().unwrap());
    files.woken().await;
    assert!(files.claim().is_none());
    let short = Duration::from_millis(20);
    assert!(files.opening(short).await.is_err());
    // From this answer on the removal's word does not count.
    assert_eq!(tell(&files), answer(1, 0, &[], &[]));
    assert!(files.opening(short).await.is_ok());
    assert_eq!(files.claim().and_then(|claim| claim.wire(SESSION)).map(|wire| wire.number), Some(1));
}

#[tokio::test]
async fn a_new_session_holds_nothing_and_what_is_open_stays_open() {
    let files = OpenFiles::new(SESSION);
    let handle = open(&files, 7, 1).await;
    assert!(files.answer(SESSION, &[unlinked(7, 20)], 20));
    drop(files.claim().unwrap());
    files.begin_session(SessionId(2));
    assert!(files.to_tell(SESSION).is_none() && files.to_tell(SessionId(2)).is_none());
    assert!(open(&files, 8, 19).await.is_none(), "what was denied stays so");
    assert!(files.answer(SessionId(2), &[unlinked(7, 60)], 70));
    let told = files.to_tell(SessionId(2)).unwrap();
    assert_eq!(told, answer(1, 70, &[7], &[]));
    files.told(SessionId(2), &told);
    drop(handle);
    assert_eq!(files.to_tell(SessionId(2)).unwrap().released, [7]);
    // Nothing of a session that is over is done later.
    drop(files.claim().unwrap());
    assert!(files.opening(Duration::from_millis(20)).await.is_err());
    files.has_expired(SessionId(2));
    assert!(files.opening(LIMIT).await.is_ok());
}
