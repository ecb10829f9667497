// Inputs nobody should send: each is refused with kInput and one line, in little memory.
#include "container_forge.hh"
#include "container_samples.hh"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <filesystem>
#include <random>

using namespace kv;

namespace {

// What the reader saw, or why it refused.
struct Outcome {
  std::string refusal;  // empty: all was read
  std::string seen;
};

template <typename F>
Outcome outcome_of(F&& read) {
  Outcome outcome;
  try {
    read(outcome.seen);
  } catch (const Error& error) {
    outcome.refusal = error.what();
    CHECK(error.kind() == ErrorKind::kInput);
    CHECK(outcome.refusal.find('\n') == std::string::npos);
    CHECK(outcome.refusal.find('\x1b') == std::string::npos);
  }
  return outcome;
}

Outcome read_stream(const std::string& path) {
  return outcome_of([&](std::string& seen) {
    Reader reader(Input::open(path));
    while (const auto meta = reader.next_member()) {
      seen += meta_to_json(*meta) + fmt::format("{}", fmt::join(reader.tokens(), ","));
      while (const auto tile = reader.next_tile()) {
        seen += forge::text_of(tile->header) + std::string(as_text(tile->data));
      }
    }
  });
}

Outcome read_index(const std::string& path) {
  return outcome_of([&](std::string& seen) {
    const IndexedFile file(path);
    for (std::size_t member = 0; member < file.members(); ++member) {
      seen += meta_to_json(file.meta(member));
      seen += fmt::format("{}", fmt::join(file.tokens(member), ","));
      for (std::size_t i = 0; i < file.index(member).size(); ++i) {
        const Tile tile = file.tile(member, i);
        seen += forge::text_of(tile.header) + std::string(as_text(tile.data));
      }
    }
  });
}

Outcome read_bytes(const std::string& bytes) {
  return read_stream(samples::MemoryFile(bytes).path());
}

std::string sound() {
  static const std::string bytes = samples::written([](Writer& writer) {
    const Meta meta = samples::small_meta(3);
    writer.begin_member(meta, samples::ids(3));
    writer.write_optional({'n', 'o', 't', 'e'}, as_bytes("skipped"));
    samples::write_tensors(writer, meta, 2);
    writer.end_member();
  });
  return bytes;
}

std::string file_text(const std::filesystem::path& path) {
  return std::string(as_text(Input::open(path.string()).read_all(1u << 20)));
}

}  // namespace

TEST_CASE("golden-bad: the reader says what is expected") {
  const std::filesystem::path folder = std::filesystem::path(KV_TESTS) / "golden-bad";
  std::filesystem::current_path(folder);
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(".")) {
    if (entry.path().extension() != ".kv") continue;
    const std::string name = entry.path().filename().string();
    CAPTURE(name);
    std::string expected = file_text(entry.path().stem().string() + ".expected");
    CHECK(read_stream(name).refusal + "\n" == expected);
    read_index(name);  // may find nothing wrong where it does not look, but nothing else
    ++count;
  }
  CHECK(count >= 90);
}

TEST_CASE("every truncation") {
  const std::string good = sound() + sound();
  for (std::size_t size = 0; size < good.size(); ++size) {
    const samples::MemoryFile file(std::string_view(good).substr(0, size));
    CAPTURE(size);
    const Outcome stream = read_stream(file.path());
    if (size == sound().size()) {  // one whole member
      CHECK(stream.refusal == "");
    } else {
      const char* says = size == 0 ? "empty" : "truncated in member";
      CHECK(stream.refusal.find(says) != std::string::npos);
      CHECK(read_index(file.path()).refusal != "");
    }
  }
}

TEST_CASE("every bit flipped") {
  const std::string good = sound();
  const Outcome whole = read_index(samples::MemoryFile(good).path());
  REQUIRE(whole.refusal == "");
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    const samples::MemoryFile file(bad);
    CAPTURE(bit);
    CHECK(read_stream(file.path()).refusal != "");
    // The index need not see what it does not read, but what it gives is right.
    const Outcome indexed = read_index(file.path());
    CHECK((indexed.refusal != "" || indexed.seen == whole.seen));
  }
}

TEST_CASE("extra bytes") {
  for (std::size_t n = 1; n <= 64; ++n) {
    for (const char c : {'\0', '\n', '\x8B'}) {
      CHECK(read_bytes(sound() + std::string(n, c)).refusal != "");
      CHECK(read_bytes(std::string(n, c) + sound()).refusal != "");
    }
  }
}

TEST_CASE("frames missing, doubled and swapped, with mended hashes") {
  const std::vector<forge::Frame> frames = forge::split(sound());
  REQUIRE(forge::join(frames) == sound());
  for (std::size_t i = 0; i < frames.size(); ++i) {
    CAPTURE(i);
    auto changed = frames;
    changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(i));
    CHECK(read_bytes(forge::join(changed)).refusal != "");
    changed = frames;
    changed.insert(changed.begin() + static_cast<std::ptrdiff_t>(i), frames[i]);
    CHECK(read_bytes(forge::join(changed)).refusal != "");
    for (std::size_t j = 0; j < i; ++j) {
      if (i == 2 && j == 1) continue;  // the optional frame may stand before TOKN, too
      changed = frames;
      std::swap(changed[i], changed[j]);
      CHECK(read_bytes(forge::join(changed)).refusal != "");
    }
  }
}

TEST_CASE("oversized declarations, with mended hashes") {
  const std::vector<forge::Frame> frames = forge::split(sound());
  for (std::size_t i = 0; i < frames.size(); ++i) {
    for (const std::uint64_t size : {1ull << 20, 1ull << 30, (1ull << 30) + 1, 1ull << 40,
                                     1ull << 63, ~0ull, ~0ull - 31, ~0ull - 15}) {
      auto changed = frames;
      changed[i].declared_bytes = size;
      CAPTURE(i);
      CAPTURE(size);
      const samples::MemoryFile file(forge::join(changed));
      CHECK(read_stream(file.path()).refusal != "");
      read_index(file.path());
    }
  }
}

TEST_CASE("every payload byte, with mended hashes: read, or refused") {
  const std::vector<forge::Frame> frames = forge::split(sound());
  int refused = 0, read = 0;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    for (std::size_t at = 0; at < frames[i].payload.size(); ++at) {
      for (const int change : {0x01, 0x80, 0xFF}) {
        auto changed = frames;
        changed[i].payload[at] = static_cast<char>(changed[i].payload[at] ^ change);
        const samples::MemoryFile file(forge::join(changed));
        (read_stream(file.path()).refusal.empty() ? read : refused) += 1;
        read_index(file.path());
      }
    }
  }
  CHECK(refused > 1000);  // most of META, headers of tiles, INDX, END
  CHECK(read > 100);      // tile data, ids, names
}

TEST_CASE("an index that points elsewhere, with mended hashes") {
  const std::vector<forge::Frame> frames = forge::split(sound());
  std::mt19937_64 random(3);
  for (int round = 0; round < 4000; ++round) {
    auto changed = frames;
    forge::Frame& index = changed[changed.size() - 2];
    const std::size_t field = random() % (index.payload.size() / 8) * 8;
    const std::uint64_t value = random() % 4 == 0 ? random() : random() % 4096 * 8 - 64;
    index.payload.replace(field, 8, forge::text_of(value));
    if (index.payload == frames[frames.size() - 2].payload) continue;
    const samples::MemoryFile file(forge::join(changed));
    CHECK(read_stream(file.path()).refusal != "");
    read_index(file.path());

    changed = frames;
    forge::Frame& end = changed.back();
    end.payload.replace(random() % 4 * 8, 8, forge::text_of(value));
    read_index(samples::MemoryFile(forge::join(changed)).path());
  }
}

TEST_CASE("META as JSON bombs") {
  const auto with_meta = [](std::string meta) {
    auto frames = forge::split(sound());
    frames[0].payload = std::move(meta);
    return read_bytes(forge::join(frames)).refusal;
  };
  const std::size_t most = format::kMaxMetaBytes;
  CHECK(with_meta(std::string(most, '[')).find("nested deeper") != std::string::npos);
  std::string keys = "{";
  while (keys.size() < most - 20) keys += fmt::format("\"{}\":0,", keys.size());
  CHECK(with_meta(keys + "\"x\":0}") != "");
  std::string lists = "{\"chunks\":[";
  while (lists.size() < most - 10) lists += "{},";
  CHECK(with_meta(lists + "{}]}") != "");
  CHECK(with_meta(std::string(most + 1, ' ')).find("limit") != std::string::npos);
}

TEST_CASE("all of this took less than 64 MB") {
#if defined(__SANITIZE_ADDRESS__)
  MESSAGE("not measured: AddressSanitizer's own memory counts");
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
  MESSAGE("not measured: AddressSanitizer's own memory counts");
#define KV_WITH_ASAN
#endif
#endif
#if !defined(__SANITIZE_ADDRESS__) && !defined(KV_WITH_ASAN)
  rusage usage = {};
  REQUIRE(getrusage(RUSAGE_SELF, &usage) == 0);
  CHECK(usage.ru_maxrss < 64 * 1024);  // KiB
#endif
}
