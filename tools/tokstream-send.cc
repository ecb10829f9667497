// tokstream-send: tokens from standard input to receivers, over networks that lose packets.

#include "transport_options.hh"

#include <cstdio>

namespace {

struct Options {
  kv::TransportText transport;
  kv::SendOptions send;
  std::string input, listen = "127.0.0.1:4711", scheme = "chatterbox+timer";
};

void declare(CLI::App& app, Options& o) {
  app.add_option("file", o.input, "the tokens (default: -)")->type_name("FILE");
  app.add_option("-l,--listen", o.listen, "HOST:PORT, port 0: any (default: 127.0.0.1:4711)")
      ->type_name("ADDRESS");
  app.add_flag("--jsonl", o.send.jsonl, "a JSON object a line: text, stream, end");
  app.add_flag("--ids", o.send.server.ids, "of --jsonl: id, not text");
  app.add_option("-n,--receivers", o.send.receivers, "end when so many have all (default: 1)")
      ->type_name("N");
  app.add_option("-s,--scheme", o.scheme, "as tokstream-sim (default: chatterbox+timer)")
      ->type_name("NAME");
  app.add_option("--packet", o.send.server.sender.packet_bytes,
                 "UDP payload at most (default: 1200)")
      ->type_name("BYTES");
  app.add_option("--pad", o.send.server.sender.pad_to, "tokens padded to a multiple (default: 1)")
      ->type_name("BYTES");
  kv::declare_transport(app, o.transport);
}

int program_body(const Options& o, const kv::Invocation& call) {
  kv::SendOptions send = o.send;
  send.server.key = kv::key_of(o.transport);
  send.server.patience = kv::patience_of(o.transport);
  send.server.sender.scheme = kv::parse_scheme(o.scheme);
  send.listen = kv::parse_host_port(o.listen, "--listen");
  if (send.server.sender.packet_bytes > 2000) {
    kv::fail_usage("--packet {}: give 256 to 2000 bytes", send.server.sender.packet_bytes);
  }
  if (send.server.ids && !send.jsonl) kv::fail_usage("--ids: give --jsonl too");
  if (send.receivers < 1) kv::fail_usage("--receivers 0: give 1 or more");
  const kv::SendReport r =
      kv::send_streams(send, kv::Input::open(o.input), [&](const kv::Peer& at) {
        kv::note(call, fmt::format("listening on {}", kv::peer_text(at)));
      });
  if (o.transport.stats) {
    fmt::print(stderr,
               "{{\"tokens\":{},\"text_bytes\":{},\"delivered\":{},\"lost\":{},\"datagrams\":{},"
               "\"bytes\":{},\"received\":{},\"malformed\":{},\"foreign\":{},\"replayed\":{},"
               "\"latest_ms\":{:.3f}}}\n",
               r.tokens, r.text_bytes, r.delivered, r.lost, r.counts.datagrams, r.counts.bytes,
               r.counts.received, r.counts.malformed, r.counts.foreign, r.counts.replayed,
               static_cast<double>(r.latest_ns) / 1e6);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"tokstream-send",
                             "send tokens to receivers over a network that loses packets",
                             "  kvgen -m smollm2 -p 'Tell me.' | tokstream-send\n"
                             "  tokstream-send --listen :4711 --key secret answer.txt\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
