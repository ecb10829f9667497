#pragma once
// The options that describe a network.

#include "kv/stream/sim_options.hh"
#include "tool.hh"

namespace kv {

inline void declare_network(CLI::App& app, NetworkText& n) {
  app.add_option("-l,--loss", n.loss,
                 "none (default), iid:P, ge:P,R,G,B, bursts:MS,RATE,IN, trace:FILE")
      ->type_name("SPEC");
  app.add_option("--delay", n.delay_ms, "each way (default: 50)")->type_name("MS");
  app.add_option("--delay-jitter", n.jitter_ms, "on top, on average (default: 0)")->type_name("MS");
  app.add_option("--reorder", n.reorder, "of packets come later (default: 0)")->type_name("SHARE");
  app.add_option("--reorder-delay", n.reorder_ms, "by this much (default: 20)")->type_name("MS");
  app.add_option("--down", n.down, "rate of the way there: Mahimahi's, or seconds and Mbit/s")
      ->type_name("FILE");
  app.add_option("--up", n.up, "rate of the way back")->type_name("FILE");
  app.add_option("--queue", n.queue_bytes, "before a rate (default: 150000)")->type_name("BYTES");
}

}  // namespace kv
