//! The checkpoint of a partition: everything that is needed to go on as if never stopped.
//!
//! Bytes: magic (8), version (u32), length of the body (u64), SHA-256 of the body (32), body; integers little-endian. Where the bytes
//! go is a port ([`Store`](crate::driver::Store)).

use crate::journal::Place;
use crate::payload::Message;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"TGAUGECP";
/// Version of the format; another one is refused.
pub const VERSION: u32 = 2;
const HEAD: usize = 8 + 4 + 8 + 32;

/// What a checkpoint holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The next row to read.
    pub next: Place,
    /// Number of the last journal entry written.
    pub journaled: u64,
    /// State of the pipeline.
    pub pipeline: Vec<u8>,
    /// Events that the sink had not acknowledged, in their final form.
    pub pending: Vec<Message>,
    /// Events after those, in the spill.
    pub spill: Spill,
}

/// A stretch of a partition's spill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spill {
    /// Which file.
    pub generation: u64,
    /// First byte that was not yet taken back.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
}

/// Why bytes are no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Cut short, changed, or something else.
    #[error("the checkpoint is damaged: {0}")]
    Damaged(Damage),
    /// Written by a version of the program that this one doesn't know.
    #[error(
        "the checkpoint has format version {got}; this program reads version {VERSION}: use the program that wrote it, or begin anew with an empty state directory"
    )]
    Version {
        /// The version found.
        got: u32,
    },
}

/// What is wrong with a damaged checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It does not begin as one.
    #[error("it does not begin as a checkpoint does")]
    Magic,
    /// It is shorter or longer than it says.
    #[error("its length is not what it says")]
    Length,
    /// Its content is not what was written.
    #[error("its checksum does not fit")]
    Checksum,
    /// Its content can't be read.
    #[error("its content can't be read")]
    Content,
}

impl Checkpoint {
    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEAD];
        bytes = postcard::to_extend(self, bytes).expect("plain data always encodes");
        let body = &bytes[HEAD..];
        let (length, sum) = (body.len() as u64, Sha256::digest(body));
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&length.to_le_bytes());
        bytes[20..HEAD].copy_from_slice(&sum);
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// When they are damaged, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let damaged = |damage| Err(CheckpointError::Damaged(damage));
        let Some((head, body)) = bytes.split_at_checked(HEAD) else {
            return damaged(if bytes.starts_with(MAGIC) { Damage::Length } else { Damage::Magic });
        };
        if !head.starts_with(MAGIC) {
            return damaged(Damage::Magic);
        }
        let number = |at: usize, len: usize| {
            head[at..at + len].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let version = number(8, 4) as u32;
        if version != VERSION {
            return Err(CheckpointError::Version { got: version });
        }
        if number(12, 8) != body.len() as u64 {
            return damaged(Damage::Length);
        }
        if head[20..] != Sha256::digest(body)[..] {
            return damaged(Damage::Checksum);
        }
        postcard::from_bytes(body).or(damaged(Damage::Content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Channel;

    fn checkpoint() -> Checkpoint {
        let pending = Message {
            channel: Channel::Events,
            key: b"t".to_vec(),
            payload: b"{}".to_vec(),
            headers: vec![("h".into(), vec![1])],
        };
        Checkpoint {
            next: Place { offset: 7, index: 2 },
            journaled: 3,
            pipeline: vec![1, 2, 3],
            pending: vec![pending],
            spill: Spill { generation: 1, from: 2, to: 9 },
        }
    }

    #[test]
    fn a_checkpoint_comes_back() {
        assert_eq!(Checkpoint::from_bytes(&checkpoint().to_bytes()), Ok(checkpoint()));
    }

    /// Given a checkpoint, when it is cut anywhere or any bit is changed, then it is refused.
    #[test]
    fn any_damage_is_found() {
        let whole = checkpoint().to_bytes();
        for len in 0..whole.len() {
            assert!(
                matches!(Checkpoint::from_bytes(&whole[..len]), Err(CheckpointError::Damaged(_))),
                "{len}"
            );
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::from_bytes(&bytes).is_err(), "{bit}");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert!(Checkpoint::from_bytes(&longer).is_err());
    }

    /// Given a checkpoint of a version to come, then it is refused by its number and not called damaged.
    #[test]
    fn another_version_is_named() {
        let mut bytes = checkpoint().to_bytes();
        bytes[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
        assert_eq!(Checkpoint::from_bytes(&bytes), Err(CheckpointError::Version { got: VERSION + 1 }));
    }
}
