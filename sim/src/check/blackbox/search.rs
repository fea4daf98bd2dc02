//! The search for one order of all operations of a partition that explains every answer.
//!
//! As in Wing and Gong, an operation may come next if no other that is still to come had returned
//! before it was invoked; as in Lowe, what was tried in vain is remembered as (set of operations,
//! state). Four things keep it short, and none of them leaves out an order that might fit:
//!
//! 1. Answered writes show indexes, and so stand in one order only.
//! 2. What changes nothing (a read, a refusal) and fits, goes next: it can only be in the way
//!    later.
//! 3. What nobody saw (a write without an answer, an expiry) goes right before something that it
//!    makes a difference to; it is tried only when everything that was seen leads to nothing.
//! 4. A failure knows the paths that it depends on. On the way back, only such unseen changes are
//!    tried as touch one of these.
//!
//! Orders with few unseen changes in a row are tried first; before all of them, one that may be
//! guessed ([`guide`]).

mod guide;

use std::collections::BTreeMap;

use super::book::{Book, Op, pin};
use super::names::{PathId, Paths, REST};
use super::spec::{Answer, Ask, Index, Scope, Shown, State};
use crate::model::Change;

pub(super) use self::guide::Guide;

/// What came of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is an order.
    Legal,
    /// It took too long to say.
    Undecided,
    /// There is none.
    Illegal(Stuck),
}

/// Where the search came furthest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stuck {
    /// So many operations were placed.
    pub(super) placed: usize,
    /// These could have been next, and none of them fits.
    pub(super) blocked: Vec<usize>,
}

/// One search after the other is tried; the last one is complete.
const PASSES: [Pass; 4] = [
    Pass::quick(1, 200_000),
    Pass::quick(3, 400_000),
    Pass::quick(u32::MAX, 400_000),
    Pass {
        run_max: u32::MAX,
        is_strict: true,
        steps: 1_000_000,
    },
];

/// How thorough a search is.
#[derive(Clone, Copy, Debug)]
struct Pass {
    /// So many unseen changes in a row are tried.
    run_max: u32,
    /// What failed is remembered with the unseen writes that were used up: otherwise a moment is
    /// given up that is like another one but for these. An order that is found is one anyhow.
    is_strict: bool,
    /// Tries to place an operation.
    steps: u64,
}

impl Pass {
    const fn quick(run_max: u32, steps: u64) -> Self {
        Self {
            run_max,
            is_strict: false,
            steps,
        }
    }
}

/// What is tried at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Choice {
    /// The operation at this place of the partition.
    Op(usize),
    Expiry(PathId),
}

/// An operation that has taken place, or a gap and what may have taken place there.
type Must = (usize, Option<usize>);

/// What an unseen change does for what did not fit before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Help {
    /// It changes something that matters.
    Little,
    /// Something else is in the way now.
    More,
    /// It fits.
    AtOnce,
}

/// The way back to a moment.
#[derive(Clone, Copy, Debug)]
struct Marks {
    trail: usize,
    log: usize,
    chain: usize,
}

/// A moment: what has been tried from here, and why it failed.
#[derive(Debug)]
struct Moment {
    before: Marks,
    here: Marks,
    key: u128,
    /// What may be next of that which has taken place; and into a gap, which operation.
    musts: Vec<Must>,
    next: usize,
    /// Those of them that do not fit here, and what would have to be otherwise.
    misfits: Vec<(Must, Paths)>,
    /// Until then something has to come next.
    end: u64,
    tried: Vec<Choice>,
    conflict: Paths,
    /// Unseen changes in a row that led here.
    run: u32,
    /// What is as the choice leaves it that is being tried, whatever was before.
    determined: Paths,
}

impl Moment {
    /// What was tried failed, and that depends on `conflict`.
    fn fails(&mut self, conflict: Paths) {
        self.conflict |= conflict & !self.determined;
    }
}

/// What came of a step to a moment.
enum Entered {
    Done,
    Failed(Paths),
    Open(Moment),
}

pub(super) struct Search<'a> {
    book: &'a Book,
    /// The operations of the partition, as they were invoked.
    ops: Vec<&'a Op>,
    /// Those with a place among the writes, in that order, and how far they are placed.
    chain: Vec<usize>,
    placed_chain: usize,
    /// Those that have taken place and are not placed yet, as a ring with an end of its own.
    next: Vec<usize>,
    last: Vec<usize>,
    optional: Vec<usize>,
    /// All unseen writes without an index.
    hidden: Vec<usize>,
    /// By place in the book, of those that are somebody's twin.
    twins: BTreeMap<usize, usize>,
    placed: Vec<bool>,
    trail: Vec<usize>,
    left: usize,
    state: State<'a>,
    set: u128,
    failed: BTreeMap<u128, Paths>,
    steps: u64,
    pass: Pass,
    /// Something was not tried since there would have been too many unseen changes in a row.
    is_cut: bool,
    stuck: Stuck,
}

impl<'a> Search<'a> {
    /// A search for an order of `ops`, which are places in the book.
    pub(super) fn new(book: &'a Book, ops: &[usize]) -> Self {
        let twins = ops.iter().enumerate();
        let twins = twins.map(|(place, &op)| (op, place)).collect();
        let ops: Vec<&Op> = ops.iter().map(|&op| &book.ops[op]).collect();
        let mut chain: Vec<usize> = (0..ops.len()).filter(|&op| ops[op].pin.is_some()).collect();
        chain.sort_by_key(|&op| ops[op].pin);
        let count = ops.len();
        let mut search = Self {
            book,
            chain,
            placed_chain: 0,
            next: vec![count; count + 1],
            last: vec![count; count + 1],
            optional: (0..count).filter(|&op| !ops[op].must).collect(),
            hidden: (0..count).filter(|&op| ops[op].is_hidden()).collect(),
            twins,
            placed: vec![false; count],
            trail: Vec::new(),
            left: 0,
            state: State::new(&book.names),
            set: 0,
            failed: BTreeMap::new(),
            steps: 0,
            pass: PASSES[0],
            is_cut: false,
            stuck: Stuck::default(),
            ops,
        };
        for op in (0..count).filter(|&op| search.ops[op].must) {
            let last = search.last[count];
            search.next[last] = op;
            search.last[op] = last;
            search.last[count] = op;
            search.left += 1;
        }
        search
    }

    /// Tries the order in which `changes` took place, and searches where that explains nothing,
    /// until the steps are used up.
    pub(super) fn run(&mut self, changes: &[&Change]) -> Outcome {
        let begin = self.marks();
        if self.follow(changes) {
            return Outcome::Legal;
        }
        self.rewind(begin);
        for pass in PASSES {
            self.pass = pass;
            self.is_cut = false;
            self.failed.clear();
            self.steps = 0;
            match self.explore() {
                Some(true) => return Outcome::Legal,
                Some(false) if pass.is_strict || !self.is_cut && self.hidden.is_empty() => {
                    return Outcome::Illegal(self.stuck.clone());
                }
                Some(false) | None => self.rewind(begin),
            }
        }
        Outcome::Undecided
    }

    /// Whether there is an order; `None` where the budget is used up.
    fn explore(&mut self) -> Option<bool> {
        let mut moments: Vec<Moment> = Vec::new();
        let mut entered = self.enter(self.marks(), 0);
        loop {
            match entered {
                Entered::Done => return Some(true),
                Entered::Open(moment) => moments.push(moment),
                Entered::Failed(conflict) => match moments.last_mut() {
                    Some(moment) => moment.fails(conflict),
                    None => return Some(false),
                },
            }
            if self.steps > self.pass.steps {
                return None;
            }
            let moment = moments.last_mut().expect("one was opened or has failed");
            entered = match self.advance(moment) {
                Some(run) => {
                    let before = moment.here;
                    self.enter(before, run)
                }
                None => {
                    let moment = moments.pop().expect("it was there a moment ago");
                    self.rewind(moment.before);
                    self.failed.insert(moment.key, moment.conflict);
                    Entered::Failed(moment.conflict)
                }
            };
        }
    }

    /// A new moment, `run` unseen changes after something that was seen.
    fn enter(&mut self, before: Marks, run: u32) -> Entered {
        let (window, end) = self.settle();
        if self.left == 0 {
            return Entered::Done;
        }
        // How many more there may be in a row is part of what the moment is.
        let run_left = match self.pass.run_max {
            u32::MAX => 0,
            _ => u128::from(run) << 64,
        };
        let key = self.set ^ self.state.hash() ^ run_left;
        if let Some(&conflict) = self.failed.get(&key) {
            self.rewind(before);
            return Entered::Failed(conflict);
        }
        let mut musts: Vec<Must> = Vec::new();
        for op in window.into_iter().filter(|&op| self.may_be_next(op)) {
            match &self.ops[op].answer {
                Answer::Gap(_, paths) => {
                    let fillers = self.fillers(paths, end);
                    musts.extend(fillers.map(|filler| (op, Some(filler))));
                }
                Answer::Found(_) | Answer::Changed(_) | Answer::Refused(_) | Answer::Unseen(_) => {
                    musts.push((op, None))
                }
            }
        }
        musts.sort_by_key(|&(op, _)| self.ops[op].rank());
        Entered::Open(Moment {
            before,
            here: self.marks(),
            key,
            musts,
            next: 0,
            misfits: Vec::new(),
            end,
            tried: Vec::new(),
            conflict: 0,
            run,
            determined: 0,
        })
    }

    /// Goes on from a moment in the next way there is: returns how many unseen changes in a row
    /// that makes.
    fn advance(&mut self, moment: &mut Moment) -> Option<u32> {
        while let Some(&must) = moment.musts.get(moment.next) {
            moment.next += 1;
            if self.must_fits(must) {
                moment.determined = self.determines(Choice::Op(must.1.unwrap_or(must.0)));
                self.take(must.0);
                if let Some(filler) = must.1 {
                    self.take(filler);
                }
                return Some(0);
            }
            moment.misfits.push((must, self.state.blame()));
            moment.conflict |= self.state.blame();
        }
        self.note(moment);
        let choice = self.unseen(moment)?;
        moment.tried.push(choice);
        self.apply(choice);
        moment.determined = self.determines(choice);
        if let Choice::Op(op) = choice {
            self.take(op);
        }
        Some(moment.run.saturating_add(1))
    }

    /// The unseen change that is to be tried next.
    fn unseen(&mut self, moment: &mut Moment) -> Option<Choice> {
        let choices = self.choices(moment);
        if moment.run >= self.pass.run_max {
            self.is_cut |= !choices.is_empty();
            return None;
        }
        loop {
            let mut best = None;
            let mut has_grown = false;
            for &choice in &choices {
                let would = self.would_write(choice) | self.would_end(choice);
                if would & moment.conflict == 0 || moment.tried.contains(&choice) {
                    continue;
                }
                if self.apply(choice) {
                    let wrote = self.state.changed(moment.here.log) | self.would_end(choice);
                    let helps = wrote & moment.conflict != 0;
                    let help = helps.then(|| self.help(&moment.misfits));
                    self.state.undo(moment.here.log);
                    if help == Some(Help::AtOnce) {
                        return Some(choice);
                    }
                    best = best.max(help.map(|help| (help, choice)));
                    continue;
                }
                // It does nothing here; what would let it may help.
                let depends = self.depends(choice);
                if depends & !moment.conflict != 0 {
                    moment.conflict |= depends;
                    has_grown = true;
                }
            }
            if best.is_some() || !has_grown {
                return best.map(|(_, choice)| choice);
            }
        }
    }

    /// All unseen changes that may come next.
    fn choices(&self, moment: &Moment) -> Vec<Choice> {
        // The last ones first: most take place soon, if at all.
        let end = self
            .optional
            .partition_point(|&op| self.ops[op].invoked <= moment.end);
        let begun = self.optional[..end].iter().copied();
        let open = begun.filter(|&op| !self.placed[op] && self.is_first(op));
        let leased = self.state.leased();
        let over = leased.filter(|&(_, earliest)| earliest <= moment.end);
        over.map(|(path, _)| Choice::Expiry(path))
            .chain(open.rev().map(Choice::Op))
            .collect()
    }

    /// Whether the copies of the same write that go before it are placed.
    fn is_first(&self, op: usize) -> bool {
        let twin = self.ops[op].twin.and_then(|twin| self.twins.get(&twin));
        twin.is_none_or(|&twin| self.placed[twin])
    }

    /// What may have taken place in a gap that shows in `paths`, before `end`; what was invoked
    /// last comes first.
    fn fillers(&self, paths: &[(PathId, Option<Shown>)], end: u64) -> impl Iterator<Item = usize> {
        let open = self.open_hidden(end).rev();
        open.filter(move |&op| State::leaves(&self.ops[op].ask, &self.book.names, paths))
    }

    /// The writes of which nothing is known but the asking, before `end`, and not placed yet.
    fn open_hidden(&self, end: u64) -> impl DoubleEndedIterator<Item = usize> {
        let end = self
            .hidden
            .partition_point(|&op| self.ops[op].invoked <= end);
        let begun = self.hidden[..end].iter().copied();
        begun.filter(|&op| !self.placed[op] && self.is_first(op))
    }

    /// What is to be placed next of all that has a place among the writes, if that place is `pin`.
    fn head(&self, pin: u64) -> Option<usize> {
        let head = self.chain.get(self.placed_chain).copied();
        head.filter(|&head| self.ops[head].pin == Some(pin))
    }

    /// Places all that fits and changes nothing. Returns what may come next, as far as time tells,
    /// and the end of that time.
    fn settle(&mut self) -> (Vec<usize>, u64) {
        loop {
            let (window, end) = self.window();
            let mut is_still = true;
            for &op in &window {
                let is_still_then = self.ops[op].rank() == 0;
                if !is_still_then || !self.may_be_next(op) {
                    continue;
                }
                if self.fits(op) {
                    self.take(op);
                    is_still = false;
                }
            }
            if is_still {
                return (window, end);
            }
        }
    }

    /// All that was invoked before something returned that is still to come.
    fn window(&self) -> (Vec<usize>, u64) {
        let (mut window, mut end) = (Vec::new(), u64::MAX);
        let mut op = self.next[self.ops.len()];
        while let Some(at) = self.ops.get(op).filter(|at| at.invoked <= end) {
            end = end.min(at.returned);
            window.push(op);
            op = self.next[op];
        }
        (window, end)
    }

    /// Whether no write that belongs before it is still to come.
    fn may_be_next(&self, op: usize) -> bool {
        let Some(at) = self.ops[op].pin else {
            return true;
        };
        // Refusals at one index are in no order among themselves.
        let head = self.chain.get(self.placed_chain);
        let is_level = |&head: &usize| self.ops[head].pin == Some(at) && at % 2 == 1;
        head.is_some_and(|head| *head == op || is_level(head))
    }

    /// The highest index shown so far.
    fn floor(&self) -> u64 {
        let last = self.placed_chain.checked_sub(1).map(|at| self.chain[at]);
        last.and_then(|op| self.ops[op].pin)
            .map_or(0, |pin| pin / 2)
    }

    /// Lets the operation take place, if it can.
    fn fits(&mut self, op: usize) -> bool {
        self.steps += 1;
        let Op {
            ask,
            answer,
            made,
            pin,
            ..
        } = self.ops[op];
        let mark = self.state.mark();
        if !self.rises(answer) || !self.state.place(ask, answer) {
            return false;
        }
        // What answers show of it that its own does not: the directories that it made on its way.
        let index = pin.map_or(0, |pin| pin / 2);
        let fits = made.is_empty() || self.state.wrote(index, made.iter().copied());
        if !fits {
            self.state.undo(mark);
        }
        fits
    }

    /// Whether the index of a change is higher than all before it.
    fn rises(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Changed(changed) => changed.index > self.floor(),
            Answer::Unseen(Index::Known(index)) => *index > self.floor(),
            Answer::Unseen(Index::Hidden)
            | Answer::Found(_)
            | Answer::Refused(_)
            | Answer::Gap(..) => true,
        }
    }

    /// Lets what has taken place do so now, if it can.
    fn must_fits(&mut self, (op, filler): Must) -> bool {
        let (Some(filler), Answer::Gap(index, paths)) = (filler, &self.ops[op].answer) else {
            return self.fits(op);
        };
        self.steps += 1;
        let mark = self.state.mark();
        let answer = Answer::Unseen(Index::Known(*index));
        let fits = self.rises(&answer)
            && self.state.place(&self.ops[filler].ask, &answer)
            && self
                .state
                .wrote(*index, paths.iter().map(|(path, _)| *path));
        if !fits {
            self.state.undo(mark);
        }
        fits
    }

    /// How much nearer what does not fit is to fitting now.
    fn help(&mut self, misfits: &[(Must, Paths)]) -> Help {
        let mut help = Help::Little;
        for &(must, blame) in misfits {
            let is_used = must.1.is_some_and(|filler| self.placed[filler]);
            let mark = self.state.mark();
            if !is_used && self.must_fits(must) {
                self.state.undo(mark);
                return Help::AtOnce;
            }
            if self.state.blame() & blame == 0 {
                help = Help::More;
            }
        }
        help
    }

    /// Whether an unseen change does anything here, which it has done then.
    fn apply(&mut self, choice: Choice) -> bool {
        match choice {
            Choice::Op(op) => self.fits(op),
            Choice::Expiry(path) => {
                self.steps += 1;
                self.state.expire(path);
                true
            }
        }
    }

    fn determines(&self, choice: Choice) -> Paths {
        let names = &self.book.names;
        match choice {
            Choice::Op(op) => self.ops[op].ask.determines(&self.ops[op].answer, names),
            Choice::Expiry(path) => names.place(path).tree & !REST,
        }
    }

    /// All that the effect of an unseen change depends on.
    fn depends(&self, choice: Choice) -> Paths {
        match choice {
            Choice::Op(op) => self.ops[op].reads,
            Choice::Expiry(path) => {
                let place = self.book.names.place(path);
                place.way | place.tree
            }
        }
    }

    /// What goes when the time is over that an unseen change grants.
    fn would_end(&self, choice: Choice) -> Paths {
        match choice {
            Choice::Op(op) if self.ops[op].ask.grants() => {
                self.book.names.place(self.ops[op].ask.path()).tree
            }
            Choice::Op(_) | Choice::Expiry(_) => 0,
        }
    }

    /// What an unseen change would write at most, if nothing stopped it.
    fn would_write(&self, choice: Choice) -> Paths {
        let op = match choice {
            Choice::Op(op) => op,
            Choice::Expiry(path) => return self.book.names.place(path).tree,
        };
        let ask = &self.ops[op].ask;
        let place = self.book.names.place(ask.path());
        let missing = place
            .above
            .iter()
            .filter(|&&above| self.state.node(above).is_none());
        let missing = missing.fold(0, |all, &above| all | self.book.names.place(above).own);
        match ask {
            Ask::Delete {
                scope: Scope::EmptyDirectory | Scope::Tree,
                ..
            } => place.tree,
            Ask::Get { .. } | Ask::Put { .. } | Ask::Append { .. } | Ask::Delete { .. } => {
                place.own | missing
            }
        }
    }

    /// Marks an operation as placed.
    fn take(&mut self, op: usize) {
        assert!(!self.placed[op], "placed twice");
        self.placed[op] = true;
        self.trail.push(op);
        self.set ^= self.name(op);
        if self.ops[op].must {
            let (last, next) = (self.last[op], self.next[op]);
            self.next[last] = next;
            self.last[next] = last;
            self.left -= 1;
        }
        while self
            .chain
            .get(self.placed_chain)
            .is_some_and(|&op| self.placed[op])
        {
            self.placed_chain += 1;
        }
    }

    /// A name for an operation in a set: the names of all of them are combined.
    fn name(&self, op: usize) -> u128 {
        if self.pass.is_strict || self.ops[op].must {
            xxhash_rust::xxh3::xxh3_128(&(op as u64).to_le_bytes())
        } else {
            0
        }
    }

    fn marks(&self) -> Marks {
        Marks {
            trail: self.trail.len(),
            log: self.state.mark(),
            chain: self.placed_chain,
        }
    }

    fn rewind(&mut self, marks: Marks) {
        while self.trail.len() > marks.trail {
            let op = self.trail.pop().expect("longer than the mark");
            self.placed[op] = false;
            self.set ^= self.name(op);
            if self.ops[op].must {
                let (last, next) = (self.last[op], self.next[op]);
                self.next[last] = op;
                self.last[next] = op;
                self.left += 1;
            }
        }
        self.state.undo(marks.log);
        self.placed_chain = marks.chain;
    }

    /// Remembers where the search came furthest.
    fn note(&mut self, moment: &Moment) {
        let placed = self.trail.len();
        if placed >= self.stuck.placed && moment.tried.is_empty() {
            let is_misfit = |op| moment.misfits.iter().any(|&((misfit, _), _)| misfit == op);
            let is_next = |op| moment.musts.iter().any(|&(next, _)| next == op);
            let fits = |op: &usize| is_next(*op) && !is_misfit(*op);
            let mut blocked = self.window().0;
            blocked.retain(|op| !fits(op));
            self.stuck = Stuck { placed, blocked };
        }
    }
}

impl Op {
    /// What is tried first: what can only be right now, then the next write, then what was only
    /// seen.
    const fn rank(&self) -> u8 {
        match (&self.answer, self.pin) {
            (Answer::Found(_) | Answer::Refused(_), _) => 0,
            (_, Some(_)) => 1,
            (_, None) => 2,
        }
    }

    /// Whether it is a write of which nothing but the asking is known.
    fn is_hidden(&self) -> bool {
        matches!(self.answer, Answer::Unseen(Index::Hidden))
    }
}

const _: () = assert!(pin(1, false) / 2 == 1 && pin(1, true) / 2 == 1);
