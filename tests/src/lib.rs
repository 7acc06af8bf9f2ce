//! Fixtures that the test layers share.
