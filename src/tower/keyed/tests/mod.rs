mod entry;
mod extract;
mod key;
