//! The bodies of answers, and how those of requests are read: bounded in bytes and in time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::v2::watch::Stream;

/// What an answer carries.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// All of it.
    Full(Bytes),
    /// Events as they come.
    Watch(Box<Stream>),
}

/// The member stopped while a client waited for an event: the connection breaks, and the client
/// asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the member stopped")]
pub struct Cut;

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Watch(stream) => stream.poll(context).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Watch(stream) => stream.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Watch(_) => SizeHint::default(),
        }
    }
}

/// How long a client may take over the next piece of a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// The slowest a body may come on the whole, in bytes a second, beside that patience: otherwise a
/// byte now and then would hold a connection for ever.
const PACE_MIN: u64 = 16 << 10;

/// How much of a body that is too large is read and thrown away, so that a client which sends all
/// of it before it listens gets its answer. Beyond it the connection just closes.
const DRAIN_MAX: usize = 64 << 20;

/// Why a body was not read. The client acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// It is longer than it may be.
    #[error("http: POST too large")]
    TooLarge,
    /// Nothing came for half a minute, or little for long.
    #[error("the body did not arrive in time")]
    Slow,
    /// The connection broke, or its framing is wrong.
    #[error("the body is broken")]
    Broken,
    /// The bodies being read hold all the memory they may.
    #[error("quorate: too busy")]
    Busy,
}

/// Reads the bodies of requests. Shared by all connections: it bounds what they hold together.
#[derive(Debug)]
pub struct Intake {
    body_bytes_max: usize,
    total_bytes_max: usize,
    held: AtomicUsize,
}

impl Intake {
    /// Bodies of up to `body_bytes_max` bytes; those that come in several pieces may hold
    /// `total_bytes_max` together, beyond which they end as [`IntakeError::Busy`].
    #[must_use]
    pub const fn new(body_bytes_max: usize, total_bytes_max: usize) -> Self {
        Self {
            body_bytes_max,
            total_bytes_max,
            held: AtomicUsize::new(0),
        }
    }

    /// Reads a body to its end. `waits` says that the client waits for leave to send it.
    ///
    /// # Errors
    /// See [`IntakeError`]. The rest of the body may be unread then.
    pub async fn read<B>(&self, mut body: B, waits: bool) -> Result<Bytes, IntakeError>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let mut pace = Pace::begin();
        if body.size_hint().lower() > self.body_bytes_max as u64 {
            if !waits {
                drain(&mut body, &mut pace).await?;
            }
            return Err(IntakeError::TooLarge);
        }
        let Some(first) = pace.piece(&mut body).await? else {
            return Ok(Bytes::new());
        };
        if body.is_end_stream() && first.len() <= self.body_bytes_max {
            return Ok(first);
        }
        let mut share = Share::of(self);
        let mut whole = BytesMut::new();
        let mut next = Some(first);
        while let Some(bytes) = next {
            if whole.len() + bytes.len() > self.body_bytes_max {
                drop(whole);
                drain(&mut body, &mut pace).await?;
                return Err(IntakeError::TooLarge);
            }
            share.add(bytes.len())?;
            whole.extend_from_slice(&bytes);
            next = pace.piece(&mut body).await?;
        }
        Ok(whole.freeze())
    }
}

/// What one body holds of the memory for all.
struct Share<'a> {
    intake: &'a Intake,
    bytes: usize,
}

impl<'a> Share<'a> {
    const fn of(intake: &'a Intake) -> Self {
        Self { intake, bytes: 0 }
    }

    fn add(&mut self, bytes: usize) -> Result<(), IntakeError> {
        self.bytes += bytes;
        let before = self.intake.held.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.intake.total_bytes_max {
            return Err(IntakeError::Busy);
        }
        Ok(())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.intake.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How fast one body comes.
struct Pace {
    began: Instant,
    bytes: u64,
}

impl Pace {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            bytes: 0,
        }
    }

    /// The next piece; `None` at the end. Trailers are nobody's business.
    async fn piece<B>(&mut self, body: &mut B) -> Result<Option<Bytes>, IntakeError>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
            match tokio::time::timeout_at(self.deadline(), frame).await {
                Err(_) => return Err(IntakeError::Slow),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(IntakeError::Broken),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.bytes += bytes.len() as u64;
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    fn deadline(&self) -> Instant {
        let whole = Duration::from_secs(self.bytes / PACE_MIN) + PATIENCE;
        (self.began + whole).min(Instant::now() + PATIENCE)
    }
}

async fn drain<B>(body: &mut B, pace: &mut Pace) -> Result<(), IntakeError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut drained = 0;
    while drained < DRAIN_MAX
        && let Some(bytes) = pace.piece(body).await?
    {
        drained += bytes.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::Future as _;

    use super::*;

    /// A body that comes in pieces and does not say how long it will be.
    struct Pieces(Vec<&'static str>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let piece = (!self.0.is_empty()).then(|| self.0.remove(0));
            Poll::Ready(piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
        }
    }

    async fn check(pieces: &[&'static str], expected: Result<&str, IntakeError>) {
        let intake = Intake::new(6, 8);
        let body = Pieces(pieces.to_vec());
        let read = intake.read(body, false).await;
        assert_eq!(
            read,
            expected.map(|text| Bytes::copy_from_slice(text.as_bytes())),
            "{pieces:?}"
        );
        assert_eq!(intake.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn bodies_are_read_whole_and_bounded() {
        check(&[], Ok("")).await;
        check(&["abc"], Ok("abc")).await;
        check(&["abc", "", "def"], Ok("abcdef")).await;
        check(&["abc", "defg"], Err(IntakeError::TooLarge)).await;
        check(&["abcdefg"], Err(IntakeError::TooLarge)).await;
    }

    /// A body that never ends, and comes a byte every so often.
    struct Trickle(Pin<Box<tokio::time::Sleep>>, Duration);

    impl http_body::Body for Trickle {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::ready!(self.0.as_mut().poll(context));
            let next = Instant::now() + self.1;
            self.0.as_mut().reset(next);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_not_take_for_ever() {
        let intake = Intake::new(10 << 20, 20 << 20);
        for every in [Duration::from_secs(1), PATIENCE - Duration::from_secs(1)] {
            let began = Instant::now();
            let body = Trickle(Box::pin(tokio::time::sleep(every)), every);
            assert_eq!(intake.read(body, false).await, Err(IntakeError::Slow));
            assert!(began.elapsed() < 2 * PATIENCE, "{:?}", began.elapsed());
        }
    }

    #[tokio::test]
    async fn an_announced_length_is_believed() {
        let intake = Intake::new(6, 8);
        let long = Body::Full(Bytes::from_static(b"abcdefg"));
        assert_eq!(intake.read(long, true).await, Err(IntakeError::TooLarge));
        let short = Body::Full(Bytes::from_static(b"abcdef"));
        assert_eq!(
            intake.read(short, true).await.as_deref(),
            Ok(&b"abcdef"[..])
        );
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded() {
        let intake = Intake::new(6, 8);
        let mut other = Share::of(&intake);
        other.add(4).expect("room");
        let body = Pieces(vec!["abc", "def"]);
        assert_eq!(intake.read(body, false).await, Err(IntakeError::Busy));
        drop(other);
        let body = Pieces(vec!["abc", "def"]);
        assert_eq!(
            intake.read(body, false).await.as_deref(),
            Ok(&b"abcdef"[..])
        );
    }
}
