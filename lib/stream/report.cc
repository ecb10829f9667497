#include "kv/stream/report.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

using nlohmann::ordered_json;

double to_ms(TimeNs t) { return static_cast<double>(t) / 1e6; }
double share(std::uint64_t part, std::uint64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

template <typename Value>
Estimate over_seeds(const SchemeResult& result, Value value) {
  std::vector<double> values;
  for (const StreamTotals& seed : result.seeds) values.push_back(value(seed));
  return estimate_of(values);
}

Estimate stall_ratio(const SchemeResult& r, std::size_t threshold) {
  return over_seeds(r, [&](const StreamTotals& t) { return t.shown.ratio(threshold); });
}
Estimate gap(const SchemeResult& r, double quantile) {
  return over_seeds(
      r, [&](const StreamTotals& t) { return to_ms(t.shown.gaps().quantile(quantile)); });
}
Estimate bytes_per_copy(const SchemeResult& r) {
  return over_seeds(r,
                    [](const StreamTotals& t) { return share(t.wire_bytes, t.copy_wire_bytes); });
}
Estimate packets_per_copy(const SchemeResult& r) {
  return over_seeds(r, [](const StreamTotals& t) { return share(t.packets, t.tokens); });
}
Estimate first_token(const SchemeResult& r) {
  return over_seeds(r, [](const StreamTotals& t) {
    return to_ms(t.first_token_ns) / static_cast<double>(t.streams);
  });
}
Estimate last_token(const SchemeResult& r) {
  return over_seeds(r, [](const StreamTotals& t) {
    return to_ms(t.last_token_ns) / static_cast<double>(t.streams);
  });
}
// Bytes of the tokens that were shown, a second of the stream.
Estimate goodput(const SchemeResult& r) {
  return over_seeds(r, [](const StreamTotals& t) {
    return t.last_token_ns > 0
               ? static_cast<double>(t.text_bytes) * 1e9 / static_cast<double>(t.last_token_ns)
               : 0;
  });
}

std::string with_half(const Estimate& e, double scale, int digits) {
  if (std::isnan(e.half)) return fmt::format("{:.{}f}", scale * e.value, digits);
  return fmt::format("{:.{}f} ±{:.{}f}", scale * e.value, digits, scale * e.half, digits);
}

std::string link_text(const LinkOptions& link) {
  std::string text = fmt::format("loss {}", link.loss.text.empty() ? "none" : link.loss.text);
  if (!link.loss.windows) text += fmt::format(", delay {:g} ms", to_ms(link.delay));
  if (!link.loss.windows && link.jitter > 0) text += fmt::format(" +{:g}", to_ms(link.jitter));
  if (link.reorder > 0) {
    text += fmt::format(", {:g} of packets {:g} ms later", link.reorder, to_ms(link.reorder_delay));
  }
  if (link.capacity) text += fmt::format(", a rate trace, queue {} B", link.queue_bytes);
  return text;
}

// Columns as wide as they need, the first to the left; ± is one column but two bytes.
std::string table_of(const std::vector<std::vector<std::string>>& rows) {
  const auto width = [](const std::string& s) {
    return static_cast<std::size_t>(
        std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  };
  std::vector<std::size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - width(row[i]), ' ');
      out += i == 0 ? row[i] + space : "  " + space + row[i];
    }
    out.resize(out.find_last_not_of(' ') + 1);
    out += '\n';
  }
  return out;
}

ordered_json number(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json();
}
ordered_json estimate_json(const Estimate& e) {
  return {{"value", number(e.value)}, {"half", number(e.half)}};
}

ordered_json link_json(const LinkOptions& link) {
  ordered_json json = {{"loss", link.loss.text.empty() ? "none" : link.loss.text}};
  if (!link.loss.windows) {
    json["delay_ms"] = to_ms(link.delay);
    json["jitter_ms"] = to_ms(link.jitter);
  }
  json["reorder"] = link.reorder;
  json["reorder_delay_ms"] = to_ms(link.reorder_delay);
  json["limited"] = link.capacity != nullptr;
  if (link.capacity) json["queue_bytes"] = link.queue_bytes;
  return json;
}

ordered_json result_json(const SchemeResult& r, const std::vector<SchemeResult>& all) {
  const StreamTotals& t = r.totals;
  ordered_json json = {{"scheme", r.scheme.name}};
  ordered_json thresholds = ordered_json::array();
  for (std::size_t i = 0; i < t.shown.thresholds().size(); ++i) {
    ordered_json entry = {{"threshold_ms", to_ms(t.shown.thresholds()[i])}};
    entry.update(estimate_json(stall_ratio(r, i)));
    thresholds.push_back(entry);
  }
  json["stall_ratio"] = thresholds;
  ordered_json lengths = ordered_json::array();
  for (std::size_t i = 0; i <= kStallSteps.size(); ++i) {
    lengths.push_back(
        {{"up_to_ms", i < kStallSteps.size() ? number(to_ms(kStallSteps[i])) : ordered_json()},
         {"stalls", t.shown.by_length()[i]}});
  }
  json["stalls_by_length"] = lengths;
  json["gap_ms"] = {{"p50", estimate_json(gap(r, 0.5))},
                    {"p95", estimate_json(gap(r, 0.95))},
                    {"p99", estimate_json(gap(r, 0.99))}};
  json["first_token_ms"] = estimate_json(first_token(r));
  json["last_token_ms"] = estimate_json(last_token(r));
  json["goodput_bytes_per_s"] = estimate_json(goodput(r));
  json["bytes_per_copy"] = estimate_json(bytes_per_copy(r));
  json["packets_per_copy"] = estimate_json(packets_per_copy(r));
  json["tokens"] = t.tokens;
  json["text_bytes"] = t.text_bytes;
  json["packets"] = t.packets;
  json["wire_bytes"] = t.wire_bytes;
  json["copy_wire_bytes"] = t.copy_wire_bytes;
  json["ack_packets"] = t.ack_packets;
  json["ack_wire_bytes"] = t.ack_wire_bytes;
  json["lost_packets"] = t.lost_packets;
  json["queue_drops"] = t.queue_drops;
  json["resent_bytes"] = t.resent_bytes;
  ordered_json less = ordered_json::object();
  for (const SchemeResult& other : all) {
    if (&other != &r) less[other.scheme.name] = estimate_json(reduction(r, other));
  }
  json["stalls_less_than"] = less;
  return json;
}

}  // namespace

std::string experiment_text(const ExperimentOptions& o, const std::vector<SchemeResult>& results) {
  const SimulationOptions& s = o.simulation;
  const StreamTotals& any = results[0].totals;
  std::string out = fmt::format(
      "network   {}\nback      {}\nstreams   {} of {} tokens, seeds {} to {}\nstalls    gaps over "
      "{:g} ms; the tokens as made have {:.3f} % of them\n\n",
      link_text(s.forward), link_text(s.back), o.streams,
      any.tokens / std::max<std::uint64_t>(any.streams, 1), o.first_seed,
      o.first_seed + o.seeds - 1, to_ms(s.thresholds[0]), 100 * any.source.ratio(0));
  std::vector<std::vector<std::string>> rows = {{"scheme", "stalled %", "p50 ms", "p95 ms",
                                                 "p99 ms", "first ms", "last s", "bytes/copy",
                                                 "packets/copy", "goodput B/s"}};
  for (const SchemeResult& r : results) {
    rows.push_back({r.scheme.name, with_half(stall_ratio(r, 0), 100, 3),
                    with_half(gap(r, 0.5), 1, 0), with_half(gap(r, 0.95), 1, 0),
                    with_half(gap(r, 0.99), 1, 0), with_half(first_token(r), 1, 0),
                    with_half(last_token(r), 1e-3, 2), with_half(bytes_per_copy(r), 1, 3),
                    with_half(packets_per_copy(r), 1, 3), with_half(goodput(r), 1, 1)});
  }
  out += table_of(rows);
  out += "\nStalls by length, of 100,000 tokens:\n";
  rows = {{"scheme"}};
  for (const TimeNs step : kStallSteps)
    rows[0].push_back(fmt::format("to {:g} s", to_ms(step) / 1e3));
  rows[0].push_back("longer");
  for (const SchemeResult& r : results) {
    rows.push_back({r.scheme.name});
    for (const std::uint64_t stalls : r.totals.shown.by_length()) {
      rows.back().push_back(fmt::format("{:.1f}", 1e5 * share(stalls, r.totals.tokens)));
    }
  }
  out += table_of(rows);
  if (s.thresholds.size() > 1) {
    out += "\nStalled % by threshold:\n";
    rows = {{"scheme"}};
    for (const TimeNs t : s.thresholds) rows[0].push_back(fmt::format("{:g} ms", to_ms(t)));
    for (const SchemeResult& r : results) {
      rows.push_back({r.scheme.name});
      for (std::size_t i = 0; i < s.thresholds.size(); ++i) {
        rows.back().push_back(with_half(stall_ratio(r, i), 100, 3));
      }
    }
    out += table_of(rows);
  }
  return out;
}

std::string experiment_json(const ExperimentOptions& o, const std::vector<SchemeResult>& results) {
  const SimulationOptions& s = o.simulation;
  ordered_json json = {{"forward", link_json(s.forward)},
                       {"back", link_json(s.back)},
                       {"streams", o.streams},
                       {"seeds", o.seeds},
                       {"first_seed", o.first_seed},
                       {"threshold_ms", to_ms(s.thresholds[0])},
                       {"inequality", "a gap is a stall when it is longer than the threshold"},
                       {"playout_ms", to_ms(s.playout)},
                       {"ack_delay_ms", to_ms(s.ack_delay)},
                       {"packet_bytes", s.packet_bytes},
                       {"pad_to", s.pad_to},
                       {"source_stall_ratio", results[0].totals.source.ratio(0)}};
  ordered_json list = ordered_json::array();
  for (const SchemeResult& r : results) list.push_back(result_json(r, results));
  json["schemes"] = list;
  return json.dump() + "\n";
}

}  // namespace kv
