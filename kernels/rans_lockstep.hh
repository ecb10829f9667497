// Decoding and encoding of up to four streams in lockstep, around a target's step. No header of its
// own: each target includes it inside its namespace and its target attributes, after a class Step.
//
// One stream alone waits for its own results most of the time; four fill the gaps of each other.

constexpr int kStreams = 4;
constexpr std::size_t kRunSteps = 256;  // most steps between two looks at the escapes

struct DecodeSlot {
  Step::State state;
  const std::byte* at;     // the next word
  const std::byte* limit;  // how far a step may begin to read: it reads 64 bytes, whatever it uses
  const RansStep* step;
  std::int8_t* out;
  std::size_t left;  // steps
  RansDecodeJob* job;
  bool in_tail, damaged;
  // The last words and zeros after them, so that reading past them is harmless.
  std::array<std::byte, 128> tail;
  std::array<std::uint32_t, kRunSteps> escapes;  // the lanes that have one, by step

  // Called where `at` has passed `limit`.
  HWY_NOINLINE const std::byte* pass_limit(const std::byte* from) {
    if (in_tail) {  // more words used than there are: go on with what is there, to no purpose
      damaged = true;
      return tail.data();
    }
    const auto end = job->stream.data() + job->stream.size();
    const auto rest = static_cast<std::size_t>(end - from);
    tail.fill(std::byte{0});
    std::copy(from, end, tail.data());
    in_tail = true;
    limit = tail.data() + rest;
    return tail.data();
  }

  // The positions of the escapes of so many steps from the one at hand. Apart from the steps: a
  // branch that is taken now and then would cost all streams their lead each time.
  HWY_NOINLINE void add_escapes(std::size_t steps) {
    const auto first = static_cast<std::uint32_t>(out - job->values);
    for (std::size_t i = 0; i < steps; ++i) {
      for (std::uint32_t lanes = escapes[i]; lanes != 0; lanes &= lanes - 1) {
        if (job->escape_count == job->escapes.size()) {
          damaged = true;
          return;
        }
        job->escapes[job->escape_count++] = first + static_cast<std::uint32_t>(i * kRansLanes) +
                                            static_cast<std::uint32_t>(std::countr_zero(lanes));
      }
    }
  }

  // False for what is damaged before the first step.
  bool start(const RansTables& tables, RansDecodeJob& from) {
    const auto size = from.stream.size();
    if (size < kRansStateBytes || size % 2 != 0 || !rans_valid_steps(tables, from.steps)) {
      return false;
    }
    alignas(64) std::array<std::uint32_t, kRansLanes> states;
    std::memcpy(states.data(), from.stream.data(), kRansStateBytes);
    for (const std::uint32_t x : states) {
      if (x < kRansLow) return false;
    }
    state = Step::load(states.data());
    at = from.stream.data() + kRansStateBytes;
    step = from.steps.data();
    left = from.steps.size();
    out = from.values;
    job = &from;
    in_tail = damaged = false;
    limit = from.stream.data() + size - 64;  // 128 bytes of states lie before
    if (at > limit) at = pass_limit(at);
    return true;
  }

  bool intact() const {
    alignas(64) std::array<std::uint32_t, kRansLanes> states;
    Step::store(state, states.data());
    bool all = in_tail && at == limit && !damaged;
    for (const std::uint32_t x : states) all &= x == kRansLow;
    return all;
  }
};

HWY_INLINE std::uint32_t step_bits(const RansStep* step) {
  std::uint32_t bits;
  std::memcpy(&bits, step, sizeof(bits));
  return bits;
}

// The table and lanes of the steps that K streams are at, and whether a run of kBits and kPartial
// may take them: kBits are those of the largest table; kPartial: some stream has idle lanes.
template <int K>
struct Now {
  std::uint32_t bits[K], lanes[K];
  const RansRow* row[K];
  int most_bits;
  bool partial;

  template <typename Slot>
  HWY_INLINE void look(Slot* const* slots, const RansRow* rows, std::ptrdiff_t step) {
    most_bits = 0;
    partial = false;
    HWY_UNROLL(4)
    for (int k = 0; k < K; ++k) {
      const RansStep* at = slots[k]->step + step;
      bits[k] = step_bits(at);
      row[k] = rows + at->table;
      lanes[k] = 0xFFFFFFFFu >> (kRansLanes - at->lanes);
      most_bits = std::max<int>(most_bits, row[k]->bits);
      partial |= at->lanes != kRansLanes;
    }
  }
  template <typename Slot>
  HWY_INLINE bool same(Slot* const* slots, std::ptrdiff_t step) const {
    bool all = true;
    HWY_UNROLL(4)
    for (int k = 0; k < K; ++k) all = all && step_bits(slots[k]->step + step) == bits[k];
    return all;
  }
};

// Up to `most` steps of K streams, as long as kBits and kPartial describe them. Returns how many.
template <int K, int kBits, bool kPartial>
std::size_t decode_run(DecodeSlot* const* slots, const RansRow* rows, std::size_t most) {
  Step::State state[K];
  const std::byte* at[K];
  HWY_UNROLL(4)
  for (int k = 0; k < K; ++k) {
    state[k] = slots[k]->state;
    at[k] = slots[k]->at;
  }
  Now<K> now;
  now.look(slots, rows, 0);
  std::size_t i = 0;
  while (true) {
    Step::Index index[K] = {};
    std::size_t steps = 0;
    bool again;
    do {  // one step, or two of the same tables that are written together
      HWY_UNROLL(4)
      for (int k = 0; k < K; ++k) {
        Step::advance<kBits, kPartial>(state[k], *now.row[k], at[k], index[k], now.lanes[k]);
        if (HWY_UNLIKELY(at[k] > slots[k]->limit)) at[k] = slots[k]->pass_limit(at[k]);
      }
      ++steps;
      again = i + steps < most && now.same(slots, static_cast<std::ptrdiff_t>(i + steps));
    } while (Step::kPairs && !kPartial && again && steps < 2);
    HWY_UNROLL(4)
    for (int k = 0; k < K; ++k) {
      std::int8_t* out = slots[k]->out + i * kRansLanes;
      std::uint32_t* escapes = &slots[k]->escapes[i];
      if (steps == 2) {
        Step::write_pair<kBits>(*now.row[k], index[k], out, escapes);
      } else {
        Step::write<kBits, kPartial>(*now.row[k], index[k], out, escapes, now.lanes[k]);
      }
    }
    i += steps;
    if (again) continue;
    if (i == most) break;
    now.look(slots, rows, static_cast<std::ptrdiff_t>(i));
    if (now.most_bits != kBits || now.partial != kPartial) break;
  }
  HWY_UNROLL(4)
  for (int k = 0; k < K; ++k) {
    slots[k]->state = state[k];
    slots[k]->at = at[k];
    slots[k]->add_escapes(i);
    slots[k]->step += i;
    slots[k]->out += i * kRansLanes;
    slots[k]->left -= i;
  }
  return i;
}

// Until one of K streams is at its end.
template <int K>
void decode_together(DecodeSlot* const* slots, const RansRow* rows) {
  std::size_t left = slots[0]->left;
  for (int k = 1; k < K; ++k) left = std::min(left, slots[k]->left);
  while (left > 0) {
    Now<K> now;
    now.look(slots, rows, 0);
    constexpr decltype(&decode_run<K, 2, false>) kRuns[] = {
        decode_run<K, 2, false>, decode_run<K, 3, false>, decode_run<K, 4, false>,
        decode_run<K, 5, false>, decode_run<K, 2, true>,  decode_run<K, 3, true>,
        decode_run<K, 4, true>,  decode_run<K, 5, true>,
    };
    left -=
        kRuns[now.most_bits - 2 + (now.partial ? 4 : 0)](slots, rows, std::min(left, kRunSteps));
  }
}

void decode_all(const RansTables& tables, std::span<RansDecodeJob> jobs) {
  std::array<DecodeSlot, kStreams> slots;
  std::array<DecodeSlot*, kStreams> live;  // the first `count`
  for (int k = 0; k < kStreams; ++k) live[k] = &slots[k];
  int count = 0;
  std::size_t next = 0;
  while (true) {
    while (count < kStreams && next < jobs.size()) {
      if (live[count]->start(tables, jobs[next++])) ++count;
    }
    if (count == 0) return;
    constexpr decltype(&decode_together<1>) kTogether[] = {decode_together<1>, decode_together<2>,
                                                           decode_together<3>, decode_together<4>};
    kTogether[count - 1](live.data(), tables.rows());
    for (int k = count; k-- > 0;) {
      if (live[k]->left > 0) continue;
      live[k]->job->intact = live[k]->intact();
      std::swap(live[k], live[--count]);
    }
  }
}

struct EncodeSlot {
  Step::State state;
  std::byte* at;  // the words made so far, last one first from the end of `words`
  const RansStep* step;
  const std::int8_t* values;
  std::size_t left;
  const RansEncodeJob* job;
  std::unique_ptr<std::byte[]> words;
  std::size_t size_bytes;

  void start(const RansEncodeJob& from) {
    alignas(64) std::array<std::uint32_t, kRansLanes> states;
    states.fill(kRansLow);
    state = Step::load(states.data());
    job = &from;
    left = from.steps.size();
    // 64 bytes a step at most, and a step may scribble over 64 bytes before those that it wrote.
    size_bytes = 64 * left + 64;
    words = std::make_unique_for_overwrite<std::byte[]>(size_bytes);
    at = words.get() + size_bytes;
    step = from.steps.data() + left;
    values = from.values + left * kRansLanes;
  }

  void finish() {
    alignas(64) std::array<std::uint32_t, kRansLanes> states;
    Step::store(state, states.data());
    const auto head = std::as_bytes(std::span(states));
    const std::byte* end = words.get() + size_bytes;
    std::vector<std::byte>& out = *job->out;
    out.reserve(out.size() + head.size() + static_cast<std::size_t>(end - at));
    out.insert(out.end(), head.begin(), head.end());
    out.insert(out.end(), static_cast<const std::byte*>(at), end);
    words.reset();
  }
};

// As decode_run, from the last step to the first.
template <int K, int kBits, bool kPartial>
std::size_t encode_run(EncodeSlot* const* slots, const RansRow* rows, std::size_t most) {
  Step::State state[K];
  std::byte* at[K];
  HWY_UNROLL(4)
  for (int k = 0; k < K; ++k) {
    state[k] = slots[k]->state;
    at[k] = slots[k]->at;
  }
  Now<K> now;
  now.look(slots, rows, -1);
  std::size_t i = 0;
  while (true) {
    ++i;
    HWY_UNROLL(4)
    for (int k = 0; k < K; ++k) {
      const std::int8_t* values = slots[k]->values - i * kRansLanes;
      at[k] = Step::encode<kBits, kPartial>(state[k], *now.row[k], at[k], values, now.lanes[k]);
    }
    if (i == most) break;
    const auto next = -1 - static_cast<std::ptrdiff_t>(i);
    if (now.same(slots, next)) continue;
    now.look(slots, rows, next);
    if (Step::encode_bits(now.most_bits) != kBits || now.partial != kPartial) break;
  }
  HWY_UNROLL(4)
  for (int k = 0; k < K; ++k) {
    slots[k]->state = state[k];
    slots[k]->at = at[k];
    slots[k]->step -= i;
    slots[k]->values -= i * kRansLanes;
    slots[k]->left -= i;
  }
  return i;
}

template <int K>
void encode_together(EncodeSlot* const* slots, const RansRow* rows) {
  std::size_t left = slots[0]->left;
  for (int k = 1; k < K; ++k) left = std::min(left, slots[k]->left);
  while (left > 0) {
    Now<K> now;
    now.look(slots, rows, -1);
    constexpr int kBits3 = Step::encode_bits(3), kBits4 = Step::encode_bits(4);
    constexpr decltype(&encode_run<K, 5, false>) kRuns[] = {
        encode_run<K, kBits3, false>, encode_run<K, kBits4, false>, encode_run<K, 5, false>,
        encode_run<K, kBits3, true>,  encode_run<K, kBits4, true>,  encode_run<K, 5, true>,
    };
    const int bits = std::max(3, now.most_bits);
    left -= kRuns[bits - 3 + (now.partial ? 3 : 0)](slots, rows, left);
  }
}

void encode_all(const RansTables& tables, std::span<const RansEncodeJob> jobs) {
  std::array<EncodeSlot, kStreams> slots;
  std::array<EncodeSlot*, kStreams> live;
  for (int k = 0; k < kStreams; ++k) live[k] = &slots[k];
  int count = 0;
  std::size_t next = 0;
  while (true) {
    while (count < kStreams && next < jobs.size()) live[count++]->start(jobs[next++]);
    if (count == 0) return;
    constexpr decltype(&encode_together<1>) kTogether[] = {encode_together<1>, encode_together<2>,
                                                           encode_together<3>, encode_together<4>};
    kTogether[count - 1](live.data(), tables.rows());
    for (int k = count; k-- > 0;) {
      if (live[k]->left > 0) continue;
      live[k]->finish();
      std::swap(live[k], live[--count]);
    }
  }
}
