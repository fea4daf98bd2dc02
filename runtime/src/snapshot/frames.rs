//! Frames on a stream: whole ones, checked.

use quorate_core::codec::{self, DecodeError, HEADER_BYTES};
use quorate_core::snapshot::{SnapshotFrame, SnapshotReply};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest frame that is taken: a row alone may hold an event, which has a value and the one
/// before it, and nothing larger.
const FRAME_BYTES_MAX: usize = 32 << 20;

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The stream broke off; another may go on.
    #[error("the stream broke off: {0}")]
    Broken(#[from] std::io::Error),
    /// What came is no frame.
    #[error("a frame {0}")]
    Damaged(#[from] DecodeError),
}

/// The next frame of a snapshot.
pub(super) async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<SnapshotFrame, FrameError> {
    Ok(codec::decode_snapshot(&read(stream).await?)?)
}

/// The next thing that the receiver says.
pub(super) async fn read_reply(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<SnapshotReply, FrameError> {
    Ok(codec::decode_snapshot_reply(&read(stream).await?)?)
}

/// Says something to the sender, at once.
pub(super) async fn write_reply(
    stream: &mut (impl AsyncWrite + Unpin),
    reply: &SnapshotReply,
) -> Result<(), FrameError> {
    stream
        .write_all(&codec::encode_snapshot_reply(reply))
        .await?;
    stream.flush().await?;
    Ok(())
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    stream.read_exact(&mut frame).await?;
    let length = codec::frame_bytes(&frame)?.ok_or(DecodeError::Truncated)?;
    if length > FRAME_BYTES_MAX {
        return Err(DecodeError::TooLong.into());
    }
    frame.resize(length, 0);
    stream.read_exact(&mut frame[HEADER_BYTES..]).await?;
    Ok(frame)
}
