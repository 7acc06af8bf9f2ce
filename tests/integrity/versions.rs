//! Two versions of the fold side by side.
