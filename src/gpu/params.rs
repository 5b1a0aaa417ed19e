//! Params of calls, several in a buffer.

use super::context::Gpu;
use super::lock::lock;
use crate::error::GpuError;

/// Bytes of a buffer that calls share for their params. It lives as long as one of them does.
const CHUNK_BYTES: u64 = 64 << 10;

/// The buffer that is being filled, and where it is free.
#[derive(Debug)]
pub(super) struct ParamsChunk {
    buffer: wgpu::Buffer,
    used: u64,
}

/// Where a call's params lie.
#[derive(Clone, Debug)]
pub(crate) struct ParamsPlace {
    pub buffer: wgpu::Buffer,
    pub first: u64,
}

impl Gpu {
    /// Writes a call's params to a place of their own.
    pub async fn params(&self, bytes: &[u8]) -> Result<ParamsPlace, GpuError> {
        let size = bytes.len() as u64;
        let place = match self.place_in_chunk(size) {
            Some(place) => place,
            None => {
                let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
                let buffer = self.buffer("params", size.max(CHUNK_BYTES), usage).await?;
                if size < CHUNK_BYTES {
                    let chunk = ParamsChunk { buffer: buffer.clone(), used: size };
                    *lock(&self.params_chunk) = Some(chunk);
                }
                ParamsPlace { buffer, first: 0 }
            }
        };
        self.write_at("params", (&place.buffer, place.first), bytes)?;
        Ok(place)
    }

    /// A place in the buffer that is being filled, where there is room.
    fn place_in_chunk(&self, size: u64) -> Option<ParamsPlace> {
        let mut chunk = lock(&self.params_chunk);
        let ParamsChunk { buffer, used } = chunk.as_mut()?;
        let first = used.next_multiple_of(u64::from(self.limits().uniform_alignment.max(4)));
        (first + size <= buffer.size()).then(|| {
            *used = first + size;
            ParamsPlace { buffer: buffer.clone(), first }
        })
    }
}
