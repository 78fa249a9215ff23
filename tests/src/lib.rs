//! What spans languages: the conformance table and the story tests. This crate ships nothing; see `conformance/` and
//! `stories/` beside it.
