/* Wine before 8.21 has no bcryptprimitives.dll, which every Go program asks for one function of
   when it starts. This stands in for it, in tests under wine alone. */

__declspec(dllimport) unsigned char __stdcall SystemFunction036(void *bytes, unsigned long n);

__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *bytes, unsigned long long n) {
  while (n > 0) {
    unsigned long part = n > 0x10000000 ? 0x10000000 : (unsigned long)n;
    if (!SystemFunction036(bytes, part))
      return 0;
    bytes += part;
    n -= part;
  }
  return 1;
}
