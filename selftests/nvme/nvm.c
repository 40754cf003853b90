// SPDX-License-Identifier: GPL-2.0
/* NVM Command Set on namespaces without metadata: every byte is compared. */
#include <stdlib.h>

#include "nvme_test.h"

#define DSM_DEALLOCATE	(1 << 2)

static bool is_plain_nvm(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && !ns->ms;
}

static void write_fresh(struct nt_ns *ns, enum nt_via via, __u64 lba,
			unsigned int blocks, char *data, __u64 seed)
{
	nt_fill(data, blocks * ns->lba_size, seed);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, lba, blocks, data, NULL, NULL),
		  NVME_SC_SUCCESS);
}

static void read_and_compare(struct nt_ns *ns, enum nt_via via, __u64 lba,
			     unsigned int blocks, char *got, const char *want)
{
	nt_status(nt_rw(ns, via, NVME_CMD_READ, lba, blocks, got, NULL, NULL),
		  NVME_SC_SUCCESS);
	nt_same(got, want, blocks * ns->lba_size);
}

/* What every supported kernel sends in one command, with an IOMMU too. */
static unsigned int max_blocks(const struct nt_ns *ns)
{
	__u32 max = 128 << 10;

	if (ns->mdts && ns->mdts < max)
		max = ns->mdts;
	return max / ns->lba_size;
}

static void sizes(struct nt_ns *ns, enum nt_via via)
{
	static const unsigned int counts[] = {
		1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 127, 128, 129, 255,
		256,
	};
	__u32 size = max_blocks(ns) * ns->lba_size;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		char *data = nt_alloc(size, 0), *got = nt_alloc(size, 0);

		if (counts[i] > max_blocks(ns))
			break;
		write_fresh(ns, via, i * 1000, counts[i], data, counts[i]);
		read_and_compare(ns, via, i * 1000, counts[i], got, data);
	}
}

/* A target over fabrics reports what its own storage makes of it. */
static void out_of_range(const struct nt_ns *ns, int ret)
{
	if (ns->testbed)
		nt_status(ret, NVME_SC_LBA_RANGE);
	else if (ret <= 0)
		nt_fail("access behind the end: no error of the device but %d",
			ret);
}

/* The first and the last blocks of the namespace, and none behind them. */
static void ends(struct nt_ns *ns, enum nt_via via)
{
	char *data = nt_alloc(8 * ns->lba_size, 0);
	char *got = nt_alloc(8 * ns->lba_size, 0);

	write_fresh(ns, via, 0, 8, data, 1);
	read_and_compare(ns, via, 0, 8, got, data);
	write_fresh(ns, via, ns->nsze - 8, 8, data, 2);
	read_and_compare(ns, via, ns->nsze - 8, 8, got, data);
	out_of_range(ns, nt_rw(ns, via, NVME_CMD_READ, ns->nsze - 7, 8, got,
			       NULL, NULL));
	out_of_range(ns, nt_rw(ns, via, NVME_CMD_WRITE, ns->nsze, 1, data,
			       NULL, NULL));
}

/* A write changes its own blocks only. */
static void neighbours(struct nt_ns *ns, enum nt_via via)
{
	char *all = nt_alloc(32 * ns->lba_size, 0);
	char *one = nt_alloc(ns->lba_size, 0);
	char *got = nt_alloc(32 * ns->lba_size, 0);
	unsigned int i;

	write_fresh(ns, via, 100, 32, all, 3);
	for (i = 1; i < 32; i += 6) {
		write_fresh(ns, via, 100 + i, 1, one, 100 + i);
		memcpy(all + i * ns->lba_size, one, ns->lba_size);
		read_and_compare(ns, via, 100, 32, got, all);
	}
}

/* Buffers at any offset in the page; odd addresses go through a copy. */
static void buffer_offsets(struct nt_ns *ns, enum nt_via via)
{
	static const __u32 offsets[] = {
		4, 8, 64, 508, 512, 1024, 2044, 3584, 4092, 1, 2, 4095,
	};
	static const unsigned int counts[] = { 1, 8, 9, 64 };
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		for (j = 0; j < ARRAY_SIZE(counts); j++) {
			__u32 size = counts[j] * ns->lba_size;
			char *want = nt_alloc(size, 0);
			char *data = nt_alloc(size, offsets[i]);
			char *got = nt_alloc(size + 64, offsets[i]);
			char *poison = nt_alloc(64, 0);

			write_fresh(ns, via, 5000, counts[j], data,
				    i * 10 + j);
			memcpy(want, data, size);
			read_and_compare(ns, via, 5000, counts[j], got, want);
			nt_same(got + size, poison, 64);
		}
	}
}

/* A read of less than the buffer holds leaves the rest alone. */
static void larger_buffer(struct nt_ns *ns, enum nt_via via)
{
	static const __u32 offsets[] = { 0, 2048 };
	unsigned int blocks = 2 * NT_PAGE / ns->lba_size;
	char *data = nt_alloc(2 * NT_PAGE, 0);
	size_t i;
	int ret;

	write_fresh(ns, via, 3000, blocks, data, 5);
	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		char *got = nt_alloc(16 * NT_PAGE, offsets[i]);
		char *rest = nt_alloc(14 * NT_PAGE, 0);
		struct nvme_uring_cmd cmd = {
			.opcode = NVME_CMD_READ,
			.addr = (uintptr_t)got,
			.data_len = 16 * NT_PAGE,
			.cdw10 = 3000,
			.cdw12 = blocks - 1,
		};

		ret = nt_io(ns, via, &cmd, NULL);
		/* a controller may insist on the exact length (SGLS bit 18) */
		if (ret == NVME_SC_SGL_LENGTH)
			continue;
		nt_status(ret, NVME_SC_SUCCESS);
		nt_same(got, data, 2 * NT_PAGE);
		nt_same(got + 2 * NT_PAGE, rest, 14 * NT_PAGE);
	}
}

/* The same data in pieces: page-sized ones, odd ones, many small ones. */
static void vectored_as(struct nt_ns *ns, enum nt_via via, const __u32 *parts,
			unsigned int n, __u32 offset)
{
	struct nvme_uring_cmd cmd = { .opcode = NVME_CMD_WRITE };
	struct iovec in[32], out[32];
	__u32 i, at, size = 0;
	char *want, *got;

	for (i = 0; i < n; i++)
		size += parts[i];
	want = nt_alloc(size, 0);
	got = nt_alloc(size, 0);
	nt_fill(want, size, size + n);
	for (i = 0, at = 0; i < n; at += parts[i++]) {
		in[i].iov_base = nt_alloc(parts[i], offset);
		out[i].iov_base = nt_alloc(parts[i], offset);
		in[i].iov_len = parts[i];
		out[i].iov_len = parts[i];
		memcpy(in[i].iov_base, want + at, parts[i]);
	}
	cmd.cdw10 = 9000;
	cmd.cdw12 = size / ns->lba_size - 1;
	cmd.data_len = n;
	cmd.addr = (uintptr_t)in;
	nt_status(nt_io_form(ns, via, NT_VEC, &cmd, NULL), NVME_SC_SUCCESS);
	read_and_compare(ns, via, 9000, size / ns->lba_size, got, want);

	cmd.opcode = NVME_CMD_READ;
	cmd.addr = (uintptr_t)out;
	nt_status(nt_io_form(ns, via, NT_VEC, &cmd, NULL), NVME_SC_SUCCESS);
	for (i = 0, at = 0; i < n; at += parts[i++])
		nt_same(out[i].iov_base, want + at, parts[i]);
}

static void vectored(struct nt_ns *ns, enum nt_via via)
{
	static const __u32 one[] = { 8192 };
	static const __u32 pages[] = { 4096, 4096, 8192, 16384 };
	static const __u32 odd[] = { 512, 4096, 1024, 100, 412, 2048 };
	__u32 many[32];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = 512;
	vectored_as(ns, via, one, ARRAY_SIZE(one), 0);
	vectored_as(ns, via, pages, ARRAY_SIZE(pages), 0);
	vectored_as(ns, via, odd, ARRAY_SIZE(odd), 0);
	vectored_as(ns, via, odd, ARRAY_SIZE(odd), 4);
	vectored_as(ns, via, odd, ARRAY_SIZE(odd), 3);
	vectored_as(ns, via, many, ARRAY_SIZE(many), 0);
	vectored_as(ns, via, many, ARRAY_SIZE(many), 2048);
}

static void flush(struct nt_ns *ns, enum nt_via via)
{
	struct nvme_uring_cmd cmd = { .opcode = NVME_CMD_FLUSH };
	char *data = nt_alloc(ns->lba_size, 0), *got = nt_alloc(ns->lba_size, 0);

	write_fresh(ns, via, 42, 1, data, 6);
	nt_status(nt_io(ns, via, &cmd, NULL), NVME_SC_SUCCESS);
	read_and_compare(ns, via, 42, 1, got, data);
}

static void write_zeroes(struct nt_ns *ns, enum nt_via via)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_WRITE_ZEROES,
		.cdw10 = 202,
		.cdw12 = 5 - 1,
	};
	char *data = nt_alloc(9 * ns->lba_size, 0);
	char *got = nt_alloc(9 * ns->lba_size, 0);

	nt_need_opcode(ns, NVME_CMD_WRITE_ZEROES, "Write Zeroes");
	write_fresh(ns, via, 200, 9, data, 7);
	nt_status(nt_io(ns, via, &cmd, NULL), NVME_SC_SUCCESS);
	memset(data + 2 * ns->lba_size, 0, 5 * ns->lba_size);
	read_and_compare(ns, via, 200, 9, got, data);
}

/* Blocks outside of the deallocated ranges keep their data. */
static void deallocate(struct nt_ns *ns, enum nt_via via)
{
	struct {
		__le32 attributes;
		__le32 blocks;
		__le64 lba;
	} *range = nt_alloc(2 * sizeof(*range), 0);
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_DSM,
		.addr = (uintptr_t)range,
		.data_len = 2 * sizeof(*range),
		.cdw10 = 2 - 1,
		.cdw11 = DSM_DEALLOCATE,
	};
	char *data = nt_alloc(64 * ns->lba_size, 0);
	char *got = nt_alloc(64 * ns->lba_size, 0);

	nt_need_opcode(ns, NVME_CMD_DSM, "Dataset Management");
	write_fresh(ns, via, 640, 64, data, 8);
	memset(range, 0, 2 * sizeof(*range));
	range[0].blocks = htole32(8);
	range[0].lba = htole64(640 + 16);
	range[1].blocks = htole32(8);
	range[1].lba = htole64(640 + 48);
	nt_status(nt_io(ns, via, &cmd, NULL), NVME_SC_SUCCESS);
	read_and_compare(ns, via, 640, 16, got, data);
	read_and_compare(ns, via, 640 + 24, 24, got, data + 24 * ns->lba_size);
	read_and_compare(ns, via, 640 + 56, 8, got, data + 56 * ns->lba_size);
}

static void compare(struct nt_ns *ns, enum nt_via via)
{
	char *data = nt_alloc(8 * ns->lba_size, 0);

	nt_need_opcode(ns, NVME_CMD_COMPARE, "Compare");
	write_fresh(ns, via, 300, 8, data, 9);
	nt_status(nt_rw(ns, via, NVME_CMD_COMPARE, 300, 8, data, NULL, NULL),
		  NVME_SC_SUCCESS);
	data[8 * ns->lba_size - 1] ^= 1;
	nt_status(nt_rw(ns, via, NVME_CMD_COMPARE, 300, 8, data, NULL, NULL),
		  NVME_SC_COMPARE_FAILED);
	nt_status(nt_rw(ns, via, NVME_CMD_COMPARE, 300, 7, data, NULL, NULL),
		  NVME_SC_SUCCESS);
}

static void verify(struct nt_ns *ns, enum nt_via via)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_VERIFY,
		.cdw10 = 400,
		.cdw12 = 8 - 1,
	};
	char *data = nt_alloc(8 * ns->lba_size, 0);

	nt_need_opcode(ns, NVME_CMD_VERIFY, "Verify");
	write_fresh(ns, via, 400, 8, data, 10);
	nt_status(nt_io(ns, via, &cmd, NULL), NVME_SC_SUCCESS);
	cmd.cdw10 = ns->nsze - 7;
	cmd.cdw11 = (ns->nsze - 7) >> 32;
	nt_status(nt_io(ns, via, &cmd, NULL), NVME_SC_LBA_RANGE);
}

static void unknown_opcode(struct nt_ns *ns, enum nt_via via)
{
	struct nvme_uring_cmd cmd = { .opcode = 0x7c };

	nt_status(nt_io(ns, via, &cmd, NULL), NVME_SC_INVALID_OPCODE);
}

/* Any size and place, the whole area compared with a copy at the end. */
static void random_writes(struct nt_ns *ns, enum nt_via via)
{
	unsigned int i, blocks, max = 64, area = 1024;
	char *shadow = nt_alloc(area * ns->lba_size, 0);
	char *got = nt_alloc(max * ns->lba_size, 0);
	__u64 at, r;

	for (at = 0; at < area; at += max)
		write_fresh(ns, via, at, max, shadow + at * ns->lba_size, at);
	for (i = 0; i < 200; i++) {
		nt_fill(&r, sizeof(r), i);
		blocks = 1 + r % max;
		at = (r >> 8) % (area - blocks + 1);
		if (r >> 63)
			write_fresh(ns, via, at, blocks,
				    shadow + at * ns->lba_size, r);
		else
			read_and_compare(ns, via, at, blocks, got,
					 shadow + at * ns->lba_size);
	}
	for (at = 0; at < area; at += max)
		read_and_compare(ns, via, at, max, got,
				 shadow + at * ns->lba_size);
}

static const struct nt_case cases[] = {
	{ "sizes", sizes },
	{ "ends", ends },
	{ "neighbours", neighbours },
	{ "buffer_offsets", buffer_offsets },
	{ "larger_buffer", larger_buffer },
	{ "vectored", vectored },
	{ "flush", flush },
	{ "write_zeroes", write_zeroes },
	{ "deallocate", deallocate },
	{ "compare", compare },
	{ "verify", verify },
	{ "unknown_opcode", unknown_opcode },
	{ "random_writes", random_writes },
};

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test the commands of NVM namespaces without metadata.",
		.wants = "NVM (without metadata)",
		.fits = is_plain_nvm,
	};

	return nt_run(argc, argv, &prog, cases, ARRAY_SIZE(cases));
}
