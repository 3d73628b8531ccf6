//! The same tests over each transport.

/// Makes a test of each of these functions for gRPC, for frames over TCP, and for frames over the unix socket.
macro_rules! over_each_transport {
    ($($name:ident),* $(,)?) => {
        over_each_transport!(@of grpc Grpc, $($name),*);
        over_each_transport!(@of tcp Tcp, $($name),*);
        over_each_transport!(@of socket Auto, $($name),*);
    };
    (@of $module:ident $transport:ident, $($name:ident),*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(cairn_proto::frames::Transport::$transport).await;
                }
            )*
        }
    };
}
