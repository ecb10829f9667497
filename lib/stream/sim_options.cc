#include "kv/stream/sim_options.hh"

#include "kv/stream/spec.hh"

namespace kv {
namespace {

std::shared_ptr<const CapacityTrace> capacity_of(const std::string& file) {
  if (file.empty()) return nullptr;
  return std::make_shared<const CapacityTrace>(read_capacity(Input::open(file)));
}

}  // namespace

TimeNs milliseconds(double value, const char* option) {
  constexpr double kMost = 1e5;
  if (!(value >= 0) || value > kMost) {
    fail_usage("{} {:g}: give milliseconds from 0 to {:g}", option, value, kMost);
  }
  return static_cast<TimeNs>(std::llround(value * 1e6));
}

void check_counts(const ExperimentOptions& o) {
  if (o.streams < 1 || o.seeds < 1 || o.streams > 1'000'000 || o.seeds > 10'000) {
    fail_usage("--streams {} --seeds {}: give 1 to 1000000 streams and 1 to 10000 seeds", o.streams,
               o.seeds);
  }
  const SimulationOptions& s = o.simulation;
  if (s.packet_bytes < 256 || s.packet_bytes > 65000) {
    fail_usage("--packet {}: give 256 to 65000 bytes", s.packet_bytes);
  }
  if (s.pad_to < 1 || s.pad_to > 128) fail_usage("--pad {}: give 1 to 128 bytes", s.pad_to);
}

void set_network(const NetworkText& text, LinkOptions& forward, LinkOptions& back) {
  forward.loss = parse_loss(text.loss);
  forward.delay = milliseconds(text.delay_ms, "--delay");
  forward.jitter = milliseconds(text.jitter_ms, "--delay-jitter");
  forward.reorder_delay = milliseconds(text.reorder_ms, "--reorder-delay");
  if (!(text.reorder >= 0) || text.reorder > 1) {
    fail_usage("--reorder {:g}: give a share from 0 to 1", text.reorder);
  }
  forward.reorder = text.reorder;
  if (text.queue_bytes < 1500) fail_usage("--queue {}: give 1500 bytes or more", text.queue_bytes);
  forward.queue_bytes = text.queue_bytes;
  back = forward;
  if (!text.ack_loss.empty()) back.loss = parse_loss(text.ack_loss);
  forward.capacity = capacity_of(text.down);
  back.capacity = capacity_of(text.up);
}

SourceOptions source_of(const SourceText& text) {
  SourceOptions source;
  if (text.payload == "text") {
    source.payload = Payload::kText;
  } else if (text.payload == "ids") {
    source.payload = Payload::kIds;
  } else {
    fail_usage("--payload '{}': give ids or text", text.payload);
  }
  if (!(text.rate_per_s >= 0.01) || text.rate_per_s > 1e5) {
    fail_usage("--rate {:g}: give tokens a second, from 0.01 to 100000", text.rate_per_s);
  }
  if (!(text.jitter >= 0) || text.jitter > 1) {
    fail_usage("--jitter {:g}: give a share from 0 to 1", text.jitter);
  }
  if (text.tokens < 2) fail_usage("--tokens {}: give 2 or more", text.tokens);
  source.interval = static_cast<TimeNs>(std::llround(1e9 / text.rate_per_s));
  source.jitter = text.jitter;
  source.tokens = text.tokens;
  if (!text.trace.empty()) {
    source.trace = std::make_shared<const std::vector<TimedToken>>(
        read_token_trace(Input::open(text.trace), source.payload));
  }
  return source;
}

std::vector<TimeNs> parse_thresholds(const std::string& text) {
  const Spec parts("--threshold", "ms:" + text);
  std::vector<TimeNs> thresholds;
  for (std::size_t i = 0; i < parts.size(); ++i) thresholds.push_back(parts.ms(i, 1, 1e6));
  return thresholds;
}

}  // namespace kv
