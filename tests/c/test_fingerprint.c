#include "check.h"

#include "core/fingerprint.h"

#include <string.h>

/* Whatever changes shows, and the threads do not. */

enum { LONGEST = 5000 };

static unsigned char bytes[LONGEST];

static void fill(void)
{
    for (int i = 0; i < LONGEST; i++) bytes[i] = (unsigned char)(i * i * 31 >> 3);
}

static void test_every_bit_counts(int count)
{
    const uint64_t whole = facs_fingerprint(bytes, (size_t)count, 1);
    int unseen = 0;
    for (int i = 0; i < 8 * count; i++) {
        bytes[i / 8] ^= (unsigned char)(1 << i % 8);
        unseen += facs_fingerprint(bytes, (size_t)count, 1) == whole;
        bytes[i / 8] ^= (unsigned char)(1 << i % 8);
    }
    CHECK(unseen == 0);
    CHECK(count == LONGEST || facs_fingerprint(bytes, (size_t)count + 1, 1) != whole);
    for (int threads = 2; threads <= 7; threads += 5)
        CHECK(facs_fingerprint(bytes, (size_t)count, threads) == whole);
}

/* What one does to an array: zero it, negate it, turn it round, exchange its halves. */
static void test_changes_of_all(void)
{
    const uint64_t whole = facs_fingerprint(bytes, LONGEST, 1);

    for (int i = 3; i < LONGEST; i += 4) bytes[i] ^= 0x80;
    CHECK(facs_fingerprint(bytes, LONGEST, 1) != whole);
    fill();
    for (int i = 7; i < LONGEST; i += 8) bytes[i] ^= 0x80;
    CHECK(facs_fingerprint(bytes, LONGEST, 1) != whole);
    fill();
    for (int i = 0; i < LONGEST / 2; i++) {
        const unsigned char kept = bytes[i];
        bytes[i] = bytes[LONGEST / 2 + i];
        bytes[LONGEST / 2 + i] = kept;
    }
    CHECK(facs_fingerprint(bytes, LONGEST, 1) != whole);
    memset(bytes, 0, sizeof bytes);
    CHECK(facs_fingerprint(bytes, LONGEST, 1) != whole);
    fill();
    CHECK(facs_fingerprint(bytes, LONGEST, 1) == whole);
}

int main(void)
{
    const int counts[] = {0, 1, 31, 32, 33, 63, 64, 65, 2048, 2049, LONGEST};
    fill();
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        test_every_bit_counts(counts[i]);
    test_changes_of_all();
    return check_report("fingerprint");
}
