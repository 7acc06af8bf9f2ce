//! Makes its node match its document, and states what happened.
