//! An address that stays while the gateway behind it is another one, as a balancer's does, and that
//! cuts connections when it is told to.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::gateway::Gateway;

/// The address, and what leads it on. Dropping it lets nobody in any more.
pub struct TcpProxy {
    pub address: String,
    behind: Arc<Mutex<String>>,
    cuts: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl TcpProxy {
    /// Before this gateway.
    pub async fn of(gateway: &Gateway) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let behind = Arc::new(Mutex::new(gateway.address().to_owned()));
        let target = Arc::clone(&behind);
        let cuts = watch::Sender::new(0);
        let mut cut = cuts.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = target.lock().clone();
                cut.borrow_and_update();
                let mut cut = cut.clone();
                tokio::spawn(async move {
                    if let Ok(mut gateway) = TcpStream::connect(target).await {
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut client, &mut gateway) => {}
                            _ = cut.changed() => {}
                        }
                    }
                });
            }
        });
        Self {
            address,
            behind,
            cuts,
            task,
        }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From the next connection on, another gateway is behind it.
    pub fn lead_to(&self, gateway: &Gateway) {
        gateway.address().clone_into(&mut self.behind.lock());
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
