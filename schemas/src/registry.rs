//! Which message goes where: the architecture as data.
