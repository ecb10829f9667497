#include "kv/stream/network_trace.hh"

#include <charconv>
#include <cmath>
#include <string_view>

namespace kv {
namespace {

constexpr std::uint64_t kMaxFileBytes = 64u << 20;
constexpr std::size_t kMaxLines = 4'000'000;
constexpr std::uint64_t kMahimahiBytes = 1504;
constexpr double kMaxSeconds = 1e7, kMaxMbits = 1e6, kMaxMs = 1e5;

// The lines of a file, with their numbers for messages.
class Lines {
 public:
  explicit Lines(Input input) : name_(input.name()), bytes_(input.read_all(kMaxFileBytes)) {
    rest_ = as_text(bytes_);
  }
  bool next(std::string_view& line) {
    if (rest_.empty()) return false;
    if (++number_ > kMaxLines) bad("too many lines");
    const std::size_t end = std::min(rest_.find('\n'), rest_.size());
    line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    line.remove_suffix(line.size() - (line.find_last_not_of(" \t\r") + 1));
    return true;
  }
  [[noreturn]] void bad(const char* what) const {
    fail_input("{}: line {}: {}", name_, number_, what);
  }
  // A number from 0 to `most`.
  double number(std::string_view text, double most, const char* what) const {
    double value = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || end != text.data() + text.size() || !(value >= 0) || value > most) {
      bad(what);
    }
    return value;
  }

 private:
  std::string name_;
  Bytes bytes_;
  std::string_view rest_;
  std::size_t number_ = 0;
};

std::vector<std::string_view> split(std::string_view line, const char* separators) {
  std::vector<std::string_view> fields;
  for (std::size_t begin = 0; begin <= line.size();) {
    const std::size_t end = std::min(line.find_first_of(separators, begin), line.size());
    fields.push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  return fields;
}

std::size_t column(const Lines& lines, const std::vector<std::string_view>& header,
                   std::string_view name) {
  for (std::size_t i = 0; i < header.size(); ++i) {
    if (header[i] == name) return i;
  }
  lines.bad(
      "no Starlink pings (packet_loss, ping_avg, ping_best) and no 5G log (PINGLOSS, "
      "PINGAVG, PINGMIN)");
}

TimeNs ms(double value) { return static_cast<TimeNs>(std::llround(value * 1e6)); }

// A window's delay and jitter from the average and the least round trip.
void set_delay(NetworkWindow& window, double average, double least) {
  window.one_way = ms(std::min(average, least) / 2);
  window.jitter = ms(std::max(average - least, 0.0) / 2);
}

std::vector<NetworkWindow> read_starlink(Lines& lines,
                                         const std::vector<std::string_view>& header) {
  constexpr TimeNs kWindow = 25 * kSecond;  // 250 pings, ten a second
  const std::size_t loss = column(lines, header, "packet_loss");
  const std::size_t average = column(lines, header, "ping_avg");
  const std::size_t least = column(lines, header, "ping_best");
  std::vector<NetworkWindow> windows;
  std::string_view line;
  while (lines.next(line)) {
    if (line.empty()) continue;
    const auto fields = split(line, ",");
    if (fields.size() != header.size()) lines.bad("not as many fields as the first line");
    NetworkWindow window{kWindow};
    window.loss = lines.number(fields[loss], 100, "packet_loss is no percentage") / 100;
    if (window.loss < 1) {
      set_delay(window, lines.number(fields[average], kMaxMs, "ping_avg is no time"),
                lines.number(fields[least], kMaxMs, "ping_best is no time"));
    }
    windows.push_back(window);
  }
  return windows;
}

// "2020.02.14_12.58.21" as seconds of its day.
TimeNs second_of_day(const Lines& lines, std::string_view text) {
  const auto parts = split(text, "._");
  if (parts.size() != 6) lines.bad("no time like 2020.02.14_12.58.21");
  double seconds = 0;
  for (std::size_t i = 3; i < 6; ++i) {
    seconds = 60 * seconds + lines.number(parts[i], 59, "no time of day");
  }
  return static_cast<TimeNs>(seconds) * kSecond;
}

std::vector<NetworkWindow> read_5g(Lines& lines, const std::vector<std::string_view>& header) {
  constexpr TimeNs kUsual = 14 * kSecond, kLongest = 60 * kSecond;
  const std::size_t time = column(lines, header, "Timestamp");
  const std::size_t loss = column(lines, header, "PINGLOSS");
  const std::size_t average = column(lines, header, "PINGAVG");
  const std::size_t least = column(lines, header, "PINGMIN");
  std::vector<NetworkWindow> windows;
  TimeNs before = 0;
  std::string_view line;
  while (lines.next(line)) {
    if (line.empty()) continue;
    const auto fields = split(line, ",");
    if (fields.size() != header.size()) lines.bad("not as many fields as the first line");
    if (fields[loss] == "-") continue;
    const TimeNs now = second_of_day(lines, fields[time]);
    if (!windows.empty()) {
      const TimeNs length = now - before;
      windows.back().length = length > 0 && length <= kLongest ? length : kUsual;
    }
    before = now;
    NetworkWindow window{kUsual};
    window.loss = lines.number(fields[loss], 100, "PINGLOSS is no percentage") / 100;
    if (fields[average] != "-") {
      set_delay(window, lines.number(fields[average], kMaxMs, "PINGAVG is no time"),
                lines.number(fields[least], kMaxMs, "PINGMIN is no time"));
    }
    windows.push_back(window);
  }
  return windows;
}

}  // namespace

std::vector<NetworkWindow> read_windows(Input input) {
  const std::string name = input.name();
  Lines lines(std::move(input));
  std::string_view first;
  if (!lines.next(first)) fail_input("{}: empty", name);
  const auto header = split(first, ",");
  const bool starlink = !header.empty() && header[0] == "timestamp_start";
  std::vector<NetworkWindow> windows =
      starlink ? read_starlink(lines, header) : read_5g(lines, header);
  if (windows.empty()) fail_input("{}: no pings in it", name);
  // Where nothing came back the delay is that of before.
  TimeNs one_way = 0, jitter = 0;
  for (const NetworkWindow& window : windows) {
    if (window.one_way > 0 && one_way == 0) one_way = window.one_way;
  }
  for (NetworkWindow& window : windows) {
    if (window.one_way > 0) {
      one_way = window.one_way;
      jitter = window.jitter;
    } else {
      window.one_way = one_way;
      window.jitter = jitter;
    }
  }
  return windows;
}

double CapacityTrace::round_bytes() const {
  double total = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const TimeNs end = i + 1 < steps.size() ? steps[i + 1].at : length + steps[0].at;
    total += static_cast<double>(steps[i].bytes) + static_cast<double>(steps[i].bytes_per_s) *
                                                       static_cast<double>(end - steps[i].at) / 1e9;
  }
  return total;
}

CapacityTrace read_capacity(Input input) {
  const std::string name = input.name();
  Lines lines(std::move(input));
  CapacityTrace trace;
  std::string_view line;
  std::uint64_t total = 0;
  while (lines.next(line)) {
    if (line.empty()) continue;
    const std::size_t space = line.find_first_of(" \t");
    const bool rates = space != std::string_view::npos;
    if (!trace.steps.empty() && rates != trace.rates) lines.bad("now one number and now two");
    trace.rates = rates;
    CapacityTrace::Step step;
    if (rates) {
      const std::size_t second = line.find_first_not_of(" \t", space);
      step.at = ms(1e3 * lines.number(line.substr(0, space), kMaxSeconds, "no time in seconds"));
      step.bytes_per_s = static_cast<std::uint64_t>(
          lines.number(line.substr(second), kMaxMbits, "no rate in Mbit/s") * 125'000);
      total += step.bytes_per_s;
    } else {
      step.at = ms(lines.number(line, 1e3 * kMaxSeconds, "no time in milliseconds"));
      step.bytes = kMahimahiBytes;
      total += step.bytes;
    }
    if (!trace.steps.empty() && step.at < trace.steps.back().at) lines.bad("times do not ascend");
    if (!rates && !trace.steps.empty() && step.at == trace.steps.back().at) {
      trace.steps.back().bytes += step.bytes;
    } else {
      trace.steps.push_back(step);
    }
  }
  if (total == 0) fail_input("{}: lets nothing through", name);
  // Mahimahi's trace ends with its last millisecond; a rate holds as long as those before did.
  const TimeNs last = trace.steps.back().at;
  const auto n = static_cast<TimeNs>(trace.steps.size());
  trace.length = trace.rates ? last + std::max(last / std::max<TimeNs>(n - 1, 1), kMillisecond)
                             : std::max(last, kMillisecond);
  // A rate that holds for no time lets nothing through.
  if (trace.rates && trace.round_bytes() < static_cast<double>(trace.length) / 1e9) {
    fail_input("{}: lets less than a byte a second through", name);
  }
  if (!trace.rates && trace.steps.back().at == trace.length) {
    // What leaves at the end is what leaves at the next beginning.
    const std::uint64_t bytes = trace.steps.back().bytes;
    trace.steps.pop_back();
    if (!trace.steps.empty() && trace.steps.front().at == 0) {
      trace.steps.front().bytes += bytes;
    } else {
      trace.steps.insert(trace.steps.begin(), {0, bytes, 0});
    }
  }
  return trace;
}

}  // namespace kv
