//! The disk's limits: overwrites of preallocated, already written files, each followed by fdatasync.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::measure::{Recorder, Run};
use crate::exit::CliError;

/// Bytes of the file that is overwritten.
const FILE_BYTES: u64 = 64 << 20;

/// `writers` at once, each overwriting `bytes` and calling fdatasync, for `seconds`. The rate is
/// of one writer.
pub async fn fdatasync(
    directory: &Path,
    writers: usize,
    bytes: usize,
    seconds: f64,
) -> Result<Run, CliError> {
    let files = (0..writers).map(|n| prepare(directory, n)).collect::<Result<Vec<_>, _>>()?;
    let mut threads = Vec::new();
    for file in files {
        threads.push(tokio::task::spawn_blocking(move || overwrite(&file, bytes, seconds)));
    }
    let mut total = Recorder::start();
    let mut runs = Vec::new();
    for thread in threads {
        let own = thread.await?.map_err(|e| CliError::io("write in", directory.display(), e))?;
        total.merge(&own);
        runs.push(own.finish());
    }
    for n in 0..writers {
        let path = directory.join(format!("limit{n}"));
        std::fs::remove_file(&path).map_err(|e| CliError::io("remove", path.display(), e))?;
    }
    let mut run = total.finish();
    run.rate /= writers.max(1) as f64;
    Ok(run)
}

fn prepare(directory: &Path, n: usize) -> Result<File, CliError> {
    let path = directory.join(format!("limit{n}"));
    let failed = |e| CliError::io("make", path.display(), e);
    let file =
        File::options().read(true).write(true).create(true).truncate(true).open(&path).map_err(failed)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    Ok(file)
}

fn overwrite(file: &File, bytes: usize, seconds: f64) -> std::io::Result<Recorder> {
    let data = vec![1; bytes];
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut recorder = Recorder::start();
    let mut at = 0;
    while Instant::now() < until {
        let started = Instant::now();
        file.write_all_at(&data, at)?;
        file.sync_data()?;
        recorder.record(started.elapsed(), 1.0);
        at = (at + bytes as u64) % (FILE_BYTES - bytes as u64 + 1);
    }
    Ok(recorder)
}

/// Sequential writes of `piece` bytes with fdatasync after each; the rate is in 10⁶ bytes a second.
pub async fn sequential(directory: &Path, piece: usize, seconds: f64) -> Result<Run, CliError> {
    let mut run = fdatasync(directory, 1, piece, seconds).await?;
    run.rate *= piece as f64 / 1e6;
    Ok(run)
}
