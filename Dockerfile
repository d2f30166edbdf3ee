# The gateway in a small image, as a user without rights.
#
#   docker build -t tidegate .
#   docker run --rm -p 127.0.0.1:8082:8082 -e TIDEGATE_KAFKA__BOOTSTRAP_SERVERS=kafka:9092 \
#     -e TIDEGATE_AUTH__MODE=none tidegate
#
# The port is published to this machine alone, as nobody is asked who they are.
# In a container the gateway listens on all addresses, and there it asks for a decision on
# authentication: without TIDEGATE_AUTH__MODE it does not start. `none` must be asked for by name.

FROM rust:1.95.0-bookworm AS build
WORKDIR /build

# The dependencies first, with an empty crate in place of ours: this layer stays as long as these
# files do, and librdkafka with its OpenSSL takes the most time of all.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir src \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs \
 && cargo build --release --locked --bin tidegate \
 && rm -r src

COPY . .
# Newer than the empty crate's build, or cargo would take that for ours.
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked --bin tidegate

FROM debian:bookworm-slim
# For brokers and registries whose certificates a public authority has signed.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /build/target/release/tidegate /usr/local/bin/
USER 10001:10001
# Nothing is kept here; a tidegate.toml mounted into it is read.
WORKDIR /etc/tidegate
ENV TIDEGATE_LISTEN=0.0.0.0:8082 \
    TIDEGATE_MANAGEMENT__LISTEN=0.0.0.0:9082
EXPOSE 8082 9082
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["tidegate", "healthcheck"]
ENTRYPOINT ["tidegate"]
CMD ["serve"]
