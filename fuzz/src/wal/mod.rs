//! The log on a disk that dies, fills up and rots.

mod ruin;
mod state;

use arbitrary::{Arbitrary, Result, Unstructured};
use quorate_core::wal::{MemoryFiles, Recovered, Wal, WalError, WalLimits, slice, small};
use quorate_core::{ChangeId, Index, LogId, Revision};

use ruin::Ruin;
use state::{State, WriteKind};

/// Things done to one log at most, and ways in which it is ruined in the end, and once more later.
const ACTS_MAX: usize = 48;
const RUINS_MAX: u8 = 3;

/// So many of the last bytes say what comes after the first ruins. Acts may have used them too.
const LATER_BYTES: usize = 96;

/// What is recovered is what was synced, or damage, or a refusal: never wrong.
pub fn wal(data: &[u8]) {
    any_files(data);
    let mut u = Unstructured::new(data);
    // Bytes that end too early end the life of the log, which then has its last examination.
    let ruins = u.arbitrary::<[Ruin; RUINS_MAX as usize]>();
    let Ok(mut life) = Life::new(&mut u) else {
        return;
    };
    let _ = life.run(&mut u);
    let mut later = Unstructured::new(&data[data.len().saturating_sub(LATER_BYTES)..]);
    if let (Ok(ruins), Ok(more), Ok(writes)) = (ruins, later.arbitrary(), later.arbitrary()) {
        let more: [Ruin; RUINS_MAX as usize] = more;
        let writes: [Option<WriteKind>; 3] = writes;
        let counts = data.first().copied().unwrap_or(0);
        let count = |counts: u8| usize::from(counts % (RUINS_MAX + 1));
        if ruin::examine(&mut life, &ruins[..count(counts)], &writes) {
            let more = &more[..count(counts / (RUINS_MAX + 1))];
            ruin::examine(&mut life, more, &[const { Some(WriteKind::long()) }; 2]);
        }
    }
}

/// Files that were never written here are refused, without a panic.
fn any_files(data: &[u8]) {
    let id = ChangeId {
        revision: Revision(1),
        sub: 0,
    };
    let mut files = MemoryFiles::new();
    slice::write(&mut files, id, &[data, data]).expect("there is room");
    small::store(&mut files, "version", data).expect("there is room");
    let records = slice::read(&files, id).expect("it was just written");
    assert!(records.iter().eq([data, data]), "another slice");
    assert_eq!(small::load(&files, "version").as_deref(), Ok(data));

    let names = [slice::file_name(id), "version".into()];
    for name in names {
        let place = usize::from(data.first().copied().unwrap_or(0)) % files.bytes(&name).len();
        files.flip(&name, place, data.get(1).map_or(1, |&mask| mask.max(1)));
    }
    assert!(
        slice::read(&files, id).is_err(),
        "a slice with a changed byte"
    );
    assert!(
        small::load(&files, "version").is_err(),
        "a file with a changed byte"
    );

    for name in ["wal.segments", "wal.seals", "wal.0000000001"] {
        files.lose(name);
        small::store(&mut files, name, &[]).expect("there is room");
        files.cut(name, 0);
        files.cut(name, data.len());
        for (place, &byte) in data.iter().enumerate() {
            files.flip(name, place, byte);
        }
    }
    assert!(
        Wal::recover(files, WalLimits::default()).is_err(),
        "a log of anything"
    );
}

/// One thing done to the log.
#[derive(Debug, Arbitrary)]
enum Act {
    Append { writes: [Option<WriteKind>; 4] },
    Seal,
    Trim { below: u8 },
    Reset { skip: u8 },
    Prepare,
    Reopen,
    Fill { spare: u16 },
}

/// The power goes off after so many changes to files, and keeps what these bits say.
#[derive(Debug, Arbitrary)]
struct Cut {
    after: u8,
    kept: u64,
    /// Only the process dies.
    gently: bool,
}

/// A log, and what it must say.
struct Life {
    limits: WalLimits,
    files: MemoryFiles,
    /// What was durable at some time, in order. Never none.
    states: Vec<State>,
    /// The log rests: not even its last write may be lost without a word.
    is_sealed: bool,
}

impl Life {
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let segment_bytes = WalLimits::SEGMENT_BYTES_MIN.next_multiple_of(8);
        let limits = WalLimits {
            segment_bytes: segment_bytes + u.int_in_range(0..=256_u64)? * 8,
            ready_segments: u.int_in_range(1..=2)?,
            spare_segments: u.int_in_range(0..=2)?,
        };
        let mut files = MemoryFiles::new();
        drop(Wal::create(&mut files, limits).expect("there is room"));
        Ok(Self {
            limits,
            files,
            states: vec![State::default()],
            is_sealed: false,
        })
    }

    fn run(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..ACTS_MAX {
            if u.is_empty() {
                break;
            }
            let (act, cut): (Act, Option<Cut>) = (u.arbitrary()?, u.arbitrary()?);
            self.act(&act, cut);
        }
        Ok(())
    }

    fn act(&mut self, act: &Act, cut: Option<Cut>) {
        self.files
            .fail_after(cut.as_ref().map(|cut| cut.after.into()));
        let mut allowed = vec![self.last().clone()];
        let done = self.attempt(act, &mut allowed);
        self.files.set_capacity(None);
        match done {
            Ok(()) => {
                self.files.fail_after(None);
                self.states.extend(allowed.drain(1..));
            }
            Err(WalError::Full) => {
                self.files.fail_after(None);
                // Some of the writes may have found room.
                let found = self.recover();
                self.came_to(&allowed, &found);
            }
            Err(WalError::File { .. } | WalError::Failed) => {
                let cut = cut.expect("no file fails by itself");
                self.files.fail_after(None);
                if !cut.gently {
                    let mut kept = cut.kept;
                    self.files.crash(|| {
                        kept = kept.rotate_left(1);
                        kept & 1 == 1
                    });
                }
                let found = self.recover();
                self.came_to(&allowed, &found);
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Does it. `allowed` grows by what may be found if it is cut short.
    fn attempt(
        &mut self,
        act: &Act,
        allowed: &mut Vec<State>,
    ) -> std::result::Result<(), WalError> {
        let state = self.last().clone();
        let end = state.last().index.0;
        let (mut wal, recovered) = Wal::recover(&mut self.files, self.limits)?;
        assert!(state.is_in(&recovered), "reopened: {recovered:#?}");
        assert_eq!((&recovered.damage, recovered.held), (&None, None));
        wal.resume()?;
        // A segment may be begun without a word of the seal before it.
        let was_sealed = std::mem::take(&mut self.is_sealed);
        match act {
            Act::Append { writes } => {
                let mut batch = Vec::new();
                for kind in writes.iter().flatten() {
                    let mut next = allowed.last().expect("never none").clone();
                    batch.push(next.write(kind));
                    allowed.push(next);
                }
                wal.append_all(&batch)?;
                assert_eq!(wal.persisted(), allowed[allowed.len() - 1].seq);
            }
            Act::Seal => {
                let mut next = state;
                let seal = next.seal();
                allowed.push(next);
                wal.append(&seal)?;
                self.is_sealed = true;
            }
            Act::Trim { below } => {
                wal.trim(Index(end.saturating_sub((*below).into()) + 1))?;
                self.is_sealed = was_sealed;
            }
            Act::Reset { skip } => {
                let index = Index(end + u64::from(*skip % 4));
                let start = LogId {
                    index,
                    ..state.last()
                };
                if index.0 > 0 && start.term.0 > 0 {
                    allowed.push(state.restarted(start));
                    wal.reset(start)?;
                }
            }
            Act::Prepare => {
                wal.prepare()?;
                self.is_sealed = was_sealed;
            }
            Act::Reopen => self.is_sealed = was_sealed,
            Act::Fill { spare } => {
                let files = wal.files_mut();
                let room = files.used() + u64::from(*spare);
                files.set_capacity(Some(room));
                let mut next = state;
                let write = next.write(&WriteKind::long());
                allowed.push(next);
                wal.append(&write)?;
            }
        }
        Ok(())
    }

    /// Recovers after a failure, as the next process does.
    fn recover(&mut self) -> Recovered {
        let recovered = Wal::recover(&mut self.files, self.limits);
        let (mut wal, recovered) = recovered.expect("a log that was only cut off");
        wal.resume().expect("there is room, and power");
        recovered
    }

    fn came_to(&mut self, allowed: &[State], found: &Recovered) {
        assert_eq!((&found.damage, found.held), (&None, None), "no damage");
        let place = allowed.iter().rposition(|state| state.is_in(found));
        let place = place.unwrap_or_else(|| panic!("{found:#?} is none of {allowed:#?}"));
        self.is_sealed = false;
        // Those on the way were durable too: what does not fit a segment is synced piece by piece.
        self.states.extend_from_slice(&allowed[1..=place]);
    }

    fn last(&self) -> &State {
        self.states.last().expect("never none")
    }
}
