// linkemu: a command behind an emulated link, and another at the link's far end.

#include "kv/linkemu/behind_link.hh"
#include "kv/stream/experiment.hh"
#include "network_options.hh"
#include "tool.hh"

namespace {

struct Options {
  kv::NetworkText network;
  kv::LinkemuOptions link;
  std::uint64_t seed = 1;
  bool stats = false;
};

void declare(CLI::App& app, Options& o) {
  app.add_option("command", o.link.command, "to run, with its arguments, behind --")
      ->type_name("COMMAND")
      ->required();
  kv::declare_network(app, o.network);
  app.add_option("--up-loss", o.network.ack_loss, "of the way back (default: as --loss)")
      ->type_name("SPEC");
  app.add_option("--far", o.link.far, "for sh -c at the far end")->type_name("COMMAND");
  app.add_option("--mtu", o.link.mtu, "of the link (default: 1500)")->type_name("BYTES");
  app.add_option("--seed", o.seed, "of the path (default: 1)")->type_name("SEED");
  app.add_flag("--stats", o.stats, "print counts as JSON on stderr");
}

std::string counts_json(const kv::Direction::Counts& c) {
  return fmt::format(
      "{{\"packets\":{},\"bytes\":{},\"lost\":{},\"dropped\":{},\"late_ms\":{:.3f}}}", c.packets,
      c.bytes, c.lost, c.dropped, static_cast<double>(c.latest) / 1e6);
}

int program_body(const Options& o, const kv::Invocation& call) {
  kv::LinkemuOptions link = o.link;
  kv::set_network(o.network, link.forward, link.back);
  link.path_seed = kv::path_seed(o.seed, 0);
  if (link.mtu < 1280 || link.mtu > 9000) kv::fail_usage("--mtu {}: give 1280 to 9000", link.mtu);
  const kv::LinkemuReport report = kv::run_behind_link(link);
  if (report.far_status.value_or(0) != 0) {
    kv::note(call, fmt::format("--far ended with status {}", *report.far_status));
  }
  if (o.stats) {
    fmt::print(stderr, "{{\"down\":{},\"up\":{}}}\n", counts_json(report.forward),
               counts_json(report.back));
  }
  return report.status;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"linkemu", "run a command behind an emulated link",
                             "  linkemu --delay 30 -- ping -c 3 10.77.0.2\n"
                             "  linkemu --loss bursts:100,0.05 --far 'tokstream-send -l "
                             "10.77.0.2:4711 -k key answer' -- \\\n"
                             "    tokstream-recv 10.77.0.2:4711 -k key\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
