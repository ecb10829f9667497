// tokstream-sim: how a stream of tokens stalls on a bad network, under each way to send it.

#include "kv/stream/report.hh"
#include "kv/stream/sim_options.hh"
#include "network_options.hh"
#include "tool.hh"

#include <thread>

namespace {

struct Options {
  kv::SourceText source;
  kv::NetworkText network;
  std::string schemes =
      "tcp,rack,duplicate:2,red:2,mosh,fec:1,chatterbox,chatterbox+timer:0.15,chatterbox+timer";
  std::string threshold = "200", plot;
  double playout_ms = 0, ack_delay_ms = 0, plot_seconds = 20;
  kv::ExperimentOptions experiment;
  bool json = false, force = false;
  unsigned threads = 0;
};

void declare(CLI::App& app, Options& o) {
  kv::ExperimentOptions& e = o.experiment;
  app.add_option("-t,--trace", o.source.trace, "tokens as kvgen --trace writes them")
      ->type_name("FILE");
  app.add_option("--rate", o.source.rate_per_s, "tokens a second (default: 20)")->type_name("N");
  app.add_option("--jitter", o.source.jitter, "of their intervals (default: 0.1)")
      ->type_name("SHARE");
  app.add_option("-n,--tokens", o.source.tokens, "of a stream (default: 1000)")->type_name("N");
  app.add_option("--payload", o.source.payload, "ids (default) or text")->type_name("KIND");
  kv::declare_network(app, o.network);
  app.add_option("--ack-loss", o.network.ack_loss, "of the way back (default: as --loss)")
      ->type_name("SPEC");
  app.add_option("-s,--schemes", o.schemes, "separated by commas (default: nine)")
      ->type_name("NAMES");
  app.add_option("--threshold", o.threshold,
                 "a stall is a longer gap (default: 200); more: a sweep")
      ->type_name("MS");
  app.add_option("--playout", o.playout_ms, "buffer before the reader (default: 0)")
      ->type_name("MS");
  app.add_option("--ack-delay", o.ack_delay_ms, "the receiver waits to answer (default: 0)")
      ->type_name("MS");
  app.add_option("--packet", e.simulation.packet_bytes, "UDP payload at most (default: 1200)")
      ->type_name("BYTES");
  app.add_option("--pad", e.simulation.pad_to, "tokens padded to a multiple (default: 1)")
      ->type_name("BYTES");
  app.add_option("--streams", e.streams, "paths a seed (default: 60)")->type_name("N");
  app.add_option("--seeds", e.seeds, "runs for the intervals (default: 20)")->type_name("N");
  app.add_option("--seed", e.first_seed, "the first (default: 1)")->type_name("SEED");
  app.add_option("-j,--threads", o.threads, "(default: one a core)")->type_name("N");
  app.add_flag("--json", o.json, "one JSON object instead of the table");
  app.add_option("--plot", o.plot, "draw to FILE, as SVG")->type_name("FILE");
  app.add_option("--plot-seconds", o.plot_seconds, "of the streams drawn (default: 20)")
      ->type_name("S");
  app.add_flag("-f,--force", o.force, "overwrite FILE");
}

int program_body(const Options& o, const kv::Invocation&) {
  kv::ExperimentOptions e = o.experiment;
  e.schemes = kv::parse_schemes(o.schemes);
  kv::SimulationOptions& s = e.simulation;
  s.source = kv::source_of(o.source);
  kv::set_network(o.network, s.forward, s.back);
  s.thresholds = kv::parse_thresholds(o.threshold);
  s.playout = kv::milliseconds(o.playout_ms, "--playout");
  s.ack_delay = kv::milliseconds(o.ack_delay_ms, "--ack-delay");
  kv::check_counts(e);
  e.threads = o.threads > 0 ? o.threads : std::max(1u, std::thread::hardware_concurrency());
  std::optional<kv::Output> plot;
  if (!o.plot.empty()) plot = kv::Output::create(o.plot, o.force);
  const std::vector<kv::SchemeResult> results = kv::run_experiment(e);
  if (plot) {
    plot->write(kv::as_bytes(kv::experiment_svg(e, results, o.plot_seconds)));
    plot->commit();
  }
  kv::print(o.json ? kv::experiment_json(e, results) : kv::experiment_text(e, results));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {
      "tokstream-sim", "how a stream of tokens stalls on a bad network",
      "  tokstream-sim --loss ge:0.068,0.852,0.04,0.5\n"
      "  tokstream-sim --loss bursts:500,0.13,0.8 --plot stalls.svg\n"
      "  tokstream-sim --loss trace:starlink-ping.csv --schemes tcp,chatterbox+timer --json\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
