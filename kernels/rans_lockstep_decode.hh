// A part of rans_lockstep.hh, and no header of its own either.

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
