//! [`History`]: what the clients asked, when, and what became of it.

use std::io::{self, BufRead, Write};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It happened, and answered as the operation says.
    Ok,
    /// It did not happen, for certain.
    Failed,
    /// It may have happened, or may yet happen.
    Unknown,
}

/// What was asked, with the answer where there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Call {
    /// A record appended to a file.
    Append {
        /// The file.
        file: u32,
        /// The writer.
        writer: u32,
        /// The record's number, rising with each append that the writer submits to the file.
        number: u64,
        /// Its bytes.
        length: u64,
        /// Where it was acknowledged to be.
        offset: Option<u64>,
    },
    /// A directory moved from one name to another that must be free: a compare-and-set of the register.
    Rename {
        /// The register.
        register: u32,
        /// The value that it must have.
        from: u32,
        /// The value that it gets.
        to: u32,
        /// Whether it had `from`; with the outcome `Ok` alone.
        moved: bool,
    },
    /// Asking which name the directory has, by one listing.
    Look {
        /// The register.
        register: u32,
        /// The value that was seen.
        value: Option<u32>,
    },
}

/// One operation of the history. Times are nanoseconds since the run began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Who asked; one operation at a time a process, except for appends in flight.
    pub process: u32,
    /// When it was asked.
    pub called_ns: u64,
    /// When it was answered, or given up.
    pub returned_ns: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// What was asked and answered.
    #[serde(flatten)]
    pub call: Call,
}

/// All operations of a run, in the order in which they were answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The operations.
    pub operations: Vec<Operation>,
}

impl History {
    /// Writes one JSON object a line.
    ///
    /// # Errors
    /// What writing met.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        for operation in &self.operations {
            serde_json::to_writer(&mut out, operation)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// What reading met, or a line that is no operation.
    pub fn read(input: impl BufRead) -> io::Result<Self> {
        let parse = |line: io::Result<String>| Ok(serde_json::from_str(&line?)?);
        Ok(Self { operations: input.lines().map(parse).collect::<io::Result<_>>()? })
    }

    /// How many operations had this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.operations.iter().filter(|o| o.outcome == outcome).count()
    }
}

/// Operations that wait to be collected, at most.
const QUEUE: usize = 65_536;

/// Where the processes of a workload note their operations.
#[derive(Clone, Debug)]
pub struct Recorder {
    began: Instant,
    operations: mpsc::Sender<Operation>,
}

/// Gathers what the recorders note.
#[derive(Debug)]
pub struct Collector {
    operations: mpsc::Receiver<Operation>,
}

/// A recorder, to be cloned for each process, and its collector.
#[must_use]
pub fn recorder() -> (Recorder, Collector) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Recorder { began: Instant::now(), operations: sender }, Collector { operations: receiver })
}

impl Recorder {
    /// Nanoseconds since the run began.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes an operation that was asked at `called_ns` and is answered, or given up, now.
    pub async fn note(&self, process: u32, called_ns: u64, outcome: Outcome, call: Call) {
        let operation = Operation { process, called_ns, returned_ns: self.now_ns(), outcome, call };
        // The collector outlives the processes of a run.
        let _ = self.operations.send(operation).await;
    }
}

impl Collector {
    /// Gathers until every recorder is gone.
    pub async fn collect(mut self) -> History {
        let mut history = History::default();
        while let Some(operation) = self.operations.recv().await {
            history.operations.push(operation);
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_survives_its_file() {
        let operation = |outcome, call| Operation { process: 3, called_ns: 1, returned_ns: 9, outcome, call };
        let append = Call::Append { file: 1, writer: 2, number: 3, length: 4, offset: Some(5) };
        let history = History {
            operations: vec![
                operation(Outcome::Ok, append),
                operation(Outcome::Unknown, Call::Rename { register: 1, from: 2, to: 3, moved: false }),
                operation(Outcome::Failed, Call::Look { register: 1, value: None }),
            ],
        };
        let mut file = Vec::new();
        history.write(&mut file).unwrap();
        assert_eq!(file.iter().filter(|b| **b == b'\n').count(), 3);
        assert_eq!(History::read(file.as_slice()).unwrap(), history);
        assert!(History::read(&b"{\"op\":\"look\"}\n"[..]).is_err());
    }
}
