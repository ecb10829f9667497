// tokstream-recv: the tokens of a tokstream-send, on standard output as they arrive.

#include "transport_options.hh"

#include <cstdio>

namespace {

struct Options {
  kv::TransportText transport;
  kv::ReceiveOptions receive;
  std::string from = "127.0.0.1:4711";
  double ack_delay_ms = 0;
};

void declare(CLI::App& app, Options& o) {
  app.add_option("address", o.from, "of the sender, HOST:PORT (default: 127.0.0.1:4711)")
      ->type_name("ADDRESS");
  app.add_option("-s,--stream", o.receive.client.stream, "which one, where it has several")
      ->type_name("NAME");
  app.add_option("-a,--append", o.receive.append, "go on in FILE, from where it ends")
      ->type_name("FILE");
  app.add_flag("--ids", o.receive.ids, "token ids, a line each");
  app.add_option("--ack-delay", o.ack_delay_ms, "wait to answer (default: 0)")->type_name("MS");
  kv::declare_transport(app, o.transport);
}

int program_body(const Options& o, const kv::Invocation&) {
  kv::ReceiveOptions receive = o.receive;
  receive.client.key = kv::key_of(o.transport);
  receive.client.patience = kv::patience_of(o.transport);
  receive.from = kv::parse_host_port(o.from, "ADDRESS");
  if (!(o.ack_delay_ms >= 0) || o.ack_delay_ms > 1000) {
    kv::fail_usage("--ack-delay {:g}: give milliseconds from 0 to 1000", o.ack_delay_ms);
  }
  receive.client.ack_delay = static_cast<kv::TimeNs>(o.ack_delay_ms * 1e6);
  const kv::ReceiveReport r = kv::receive_stream(receive);
  if (o.transport.stats) {
    fmt::print(stderr,
               "{{\"text_bytes\":{},\"datagrams\":{},\"bytes\":{},\"received\":{},\"malformed\":{},"
               "\"foreign\":{},\"replayed\":{}}}\n",
               r.received_bytes, r.counts.datagrams, r.counts.bytes, r.counts.received,
               r.counts.malformed, r.counts.foreign, r.counts.replayed);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {
      "tokstream-recv", "receive tokens and print them as they arrive",
      "  tokstream-recv | cat\n"
      "  tokstream-recv --key secret example.org:4711 --append answer.txt\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
