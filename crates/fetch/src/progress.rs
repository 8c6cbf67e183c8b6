//! What is reported while requests are sent and bytes arrive. A program that prints it
//! implements the trait `Progress`.

/// Called with the number of bytes of a transfer so far; dropped at the end of the transfer.
pub type TransferListener = Box<dyn Fn(u64) + Send + Sync>;

/// Receives reports about downloads and requests.
pub trait Progress: Send + Sync + std::fmt::Debug {
    /// One finished piece of work, or the next attempt at it: `Fetched`, and what.
    fn status(&self, verb: &str, text: &str);

    fn note(&self, text: &str);

    fn warning(&self, text: &str);

    /// A download starts; `total` is its size in bytes, or `None` if it is not known.
    fn download(&self, name: &str, total: Option<u64>) -> TransferListener;
}
