//! Tiles by measurement: every candidate is verified, then timed; the fastest is stored.
//!
//! The heuristic's tiles are good at once and everywhere; those that a device was measured to like best are better. A
//! problem's candidates race: each result must be that of the heuristic's tiles before it is timed, rounds are
//! interleaved, and slow ones leave early. The winner is kept as tiles under the device, the kernels' text and the
//! problem's size class ([`TuneKey`]), and planned anew each time it is used.
//!
//! # In an app
//!
//! [`Engine::tune`](crate::Engine::tune) measures one problem, for which it makes tensors of its own: the app's are
//! not touched. It blocks, so call it while loading, or on a thread of its own; an engine serves many threads, and the
//! device runs the app's frames between the measured calls, each of which is one call of the problem.
//! [`Engine::tune_async`](crate::Engine::tune_async) is for the browser.
//!
//! An app that does not know its problems beforehand opens its engine with [`TunePolicy::Measure`], works with the
//! heuristic's tiles, and calls [`Engine::tune_asked`](crate::Engine::tune_asked) when it has time: all problems asked
//! until then are measured, and asked again they take the fastest tiles.
//!
//! An app that ships tunings: `tilewise tune SPEC.json --export tunings.json` on a device of each kind, then
//! [`Tunings::from_json`] and [`Engine::import_tunings`](crate::Engine::import_tunings). They apply to adapters of the
//! same name; nothing else of a file is trusted: tiles that do not fit are not used.

mod guard;
mod key;
mod measure;
mod store;
mod tuned;
mod tuner;

pub use crate::operator::TilesFrom;
pub use key::TuneKey;
pub(crate) use store::Store;
pub use store::{Tuning, Tunings, TuningsError};
pub use tuned::{Stored, Timing, TunePolicy, Tuned, Verdict};
pub use tuner::Progress;
#[cfg(feature = "cli")]
pub(crate) use tuner::WARMING;
pub(crate) use tuner::{Race, race};
