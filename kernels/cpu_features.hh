#pragma once
// What the processor and the operating system allow. x86-64 only; false elsewhere.

namespace kv {

bool cpu_has_avx2();          // with F16C
bool cpu_has_avx2_group();    // with the above, AES, BMI 1 and 2, FMA, LZCNT, PCLMUL, POPCNT
bool cpu_has_avx_vnni();      // with AVX2
bool cpu_has_avx512();        // F, BW, DQ, VL, with AVX2
bool cpu_has_avx512_vbmi2();  // VBMI and VBMI2, with the AVX2 group and AVX-512
bool cpu_has_avx512_vnni();   // with AVX-512
bool cpu_has_avx512_bf16();   // with AVX-512
// Both with the AVX-512 extension of their type; they ask Linux for permission, for the whole
// process.
bool cpu_has_amx_int8();
bool cpu_has_amx_bf16();
// Whether products in bf16 are faster than in f32: with AMX, and with AVX-512's instruction but on
// Intel's processors, where it makes half as many as f32's does (Sapphire Rapids: 43 and 86 G/s).
bool cpu_favours_bf16();

}  // namespace kv
