//! What a command works with: the client and where results go.

use raftmap_client::Client;

use crate::{args::Common, failure::Failure, output::Out};

pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) out: Out,
    pub(crate) timeout: std::time::Duration,
}

impl Context {
    pub(crate) fn new(common: &Common) -> Result<Context, Failure> {
        let mut builder = Client::builder(common.endpoints.iter().cloned()).timeout(common.timeout);
        if let Some(token) = &common.token {
            builder = builder.token(token);
        }
        let client = builder.build()?;
        Ok(Context { client, out: Out::new(common.json()), timeout: common.timeout })
    }
}
