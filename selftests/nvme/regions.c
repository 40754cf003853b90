// SPDX-License-Identifier: GPL-2.0
/*
 * Commands whose data is in memory that was mapped beforehand: of every kind,
 * at every offset, in rings of every kind, and what is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "region.h"
#include "watch.h"

#ifndef IORING_URING_CMD_FIXED
#define IORING_URING_CMD_FIXED 1
#endif

#define AREA		(3 * NT_HUGE)
/* of the areas, so that a page of a region is no page of memory */
#define SKIP		516
/* data pages that a page of a PRP list has room for */
#define PRPS		511
#define GUARD		128
#define MAX_SEGMENTS	300

static struct nt_ring ring;
static struct nt_area areas[NT_KINDS];
static bool have[NT_KINDS];
static unsigned char *wire, *back;
/* metadata of namespaces that have it apart */
static struct nt_area meta;
static __u32 meta_region;

/* handles of the areas, as they are and without their first bytes */
struct handles {
	__u32 whole[NT_KINDS];
	__u32 part[NT_KINDS];
};

struct target {
	struct nt_ns *ns;
	const struct nt_mode *mode;
};

static void make_memory(void)
{
	int kind;

	for (kind = 0; kind < NT_KINDS; kind++)
		have[kind] = nt_area_make(kind, AREA, &areas[kind]);
	nt_area_make(NT_THP, NT_HUGE, &meta);
	wire = malloc(AREA);
	back = malloc(AREA);
	if (!wire || !back)
		nt_die("not enough memory");
}

static void map_all(struct nt_ns *ns, struct handles *h)
{
	__u32 granule;
	int kind, fd = ns->dev.fd;

	for (kind = 0; kind < NT_KINDS; kind++) {
		if (!have[kind])
			continue;
		nt_status(nt_map_area(fd, &areas[kind], 0, &h->whole[kind],
				      &granule), 0);
		nt_status(nt_map_area(fd, &areas[kind], SKIP, &h->part[kind],
				      &granule), 0);
	}
}

static void unmap_all(struct nt_ns *ns, struct handles *h)
{
	int kind;

	for (kind = 0; kind < NT_KINDS; kind++) {
		if (!have[kind])
			continue;
		nt_status(nt_unmap(ns->dev.fd, h->whole[kind]), 0);
		nt_status(nt_unmap(ns->dev.fd, h->part[kind]), 0);
	}
}

/* A command for the place, with metadata where there must be some. */
static void place_cmd(struct nt_ns *ns, bool write, __u32 len,
		      struct nvme_uring_cmd *cmd)
{
	nt_place_cmd(ns, 0, write, len, cmd);
	/* the start of a region, in place of an address */
	cmd->metadata = 0;
}

static int run(struct nt_ns *ns, __u32 op, const struct nvme_uring_cmd *cmd,
	       __u32 region)
{
	return nt_region_run(&ring, ns->dev.fd, op, cmd, region, meta_region);
}

/* Through the ioctl with one buffer: what is at the place. */
static void read_back(struct nt_ns *ns, __u32 len)
{
	struct nvme_uring_cmd cmd;

	memset(back, 0, len);
	place_cmd(ns, false, len, &cmd);
	if (cmd.metadata_len)
		cmd.metadata = (uintptr_t)meta.at + NT_PAGE;
	cmd.addr = (uintptr_t)back;
	cmd.data_len = len;
	nt_status(nt_dev_ioctl(ns->dev.fd, NVME_IOCTL_IO64_CMD, &cmd, NULL),
		  NVME_SC_SUCCESS);
}

static void same(const char *what, const char *how, __u64 at, __u32 len,
		 const unsigned char *got, const unsigned char *want, size_t n)
{
	size_t i;

	if (!memcmp(got, want, n))
		return;
	for (i = 0; got[i] == want[i];)
		i++;
	nt_fail("%s, %s: %u bytes at %llu: byte %zu: got %02x, expected %02x",
		what, how, len, (unsigned long long)at, i, got[i], want[i]);
}

static void succeeded(const char *what, const char *how, __u64 at, __u32 len,
		      int status)
{
	if (status)
		nt_fail("%s, %s: %u bytes at %llu: %s %xh", what, how, len,
			(unsigned long long)at, status < 0 ? "errno" : "status",
			status < 0 ? -status : status);
}

/* The device and the memory around the data, after @len bytes went both ways. */
static void one_span(struct nt_ns *ns, const char *what, __u32 region,
		     unsigned char *base, __u64 at, __u32 len)
{
	unsigned char *data = base + at;
	size_t before = at < GUARD ? at : GUARD;
	size_t after = data + len + GUARD > base + AREA - SKIP ? 0 : GUARD;
	static unsigned char poison[GUARD];
	struct nvme_uring_cmd cmd;

	memset(poison, NT_POISON, GUARD);
	memcpy(data, wire, len);
	nt_place_reset(ns, 0);
	place_cmd(ns, true, len, &cmd);
	cmd.addr = at;
	cmd.data_len = len;
	succeeded(what, "write", at, len,
		  run(ns, NVME_NG_URING_CMD_IO, &cmd, region));
	read_back(ns, len);
	same(what, "what was written", at, len, back, wire, len);

	memset(data - before, NT_POISON, before + len + after);
	place_cmd(ns, false, len, &cmd);
	cmd.addr = at;
	cmd.data_len = len;
	succeeded(what, "read", at, len,
		  run(ns, NVME_NG_URING_CMD_IO, &cmd, region));
	same(what, "what was read", at, len, data, wire, len);
	same(what, "before it", at, len, data - before, poison, before);
	same(what, "behind it", at, len, data + len, poison, after);
}

static __u32 whole_units(const struct nt_ns *ns, __u32 len, __u32 max)
{
	__u32 unit = nt_place_unit(ns);

	len = len < max ? len : max;
	return len < unit ? unit : len / unit * unit;
}

/* Offsets where something begins or ends. */
static void spans(struct nt_ns *ns, const char *what, __u32 region,
		  unsigned char *base, size_t size, __u32 align)
{
	static const struct {
		__u64 at;
		__u32 len;
	} plain[] = {
		{ 0, 1 }, { 0, 4096 }, { 0, 8192 }, { 4, 4096 }, { 512, 9000 },
		{ 4092, 4096 }, { 4092, 12288 }, { 3584, 512 }, { 4096, 20000 },
		{ NT_HUGE - 4096, 16384 }, { 0, -1U }, { 2052, -1U },
		{ 1, 5001 }, { 4095, 4096 }, { 6143, -1U },
	};
	__u32 max = nt_place_max(ns), len, i;

	for (i = 0; i < ARRAY_SIZE(plain); i++) {
		len = whole_units(ns, plain[i].len, max);
		if (plain[i].at % align)
			continue;
		one_span(ns, what, region, base, plain[i].at, len);
	}
	/* the last bytes */
	for (i = 1; i <= 8192; i *= 8) {
		len = whole_units(ns, i, max);
		/* but not of the memory: the end must fit the alignment */
		one_span(ns, what, region, base, (size - len) / 4 * 4, len);
	}
	len = whole_units(ns, -1, max);
	one_span(ns, what, region, base, (size - len) / 4 * 4, len);
}

/* The last page is where a page of the PRP list begins or ends. */
static void list_ends(struct nt_ns *ns, const char *what, __u32 region,
		      unsigned char *base, __u64 skew)
{
	static const __u32 pages[] = { 2, 3, 4, 5, 17, 63, 64, 96, 127, 128 };
	__u32 max = nt_place_max(ns), unit = nt_place_unit(ns), last, i;
	int shift;

	for (last = PRPS - 1; last <= 2 * PRPS + 1; last++) {
		if (last == PRPS + 3)
			last = 2 * PRPS - 1;
		for (i = 0; i < ARRAY_SIZE(pages); i++) {
			__u64 first = (__u64)(last + 1 - pages[i]) * NT_PAGE;
			__u32 len = pages[i] * NT_PAGE;

			for (shift = 0; shift <= 2044; shift += 2044) {
				__u64 at = first + shift;

				/* all of the last page, or some of it */
				len = pages[i] * NT_PAGE - shift;
				if (shift)
					len -= 1000;
				len = len / unit * unit;
				if (len > max || at < skew)
					continue;
				one_span(ns, what, region, base, at - skew,
					 len);
			}
		}
	}
}

static __u32 alignment(struct nt_ns *ns)
{
	struct nvme_ng_limits lim;

	nt_status(nt_limits(ns->dev.fd, &lim), 0);
	nt_eq(!!(lim.features & NVME_NG_F_REGIONS), true);
	return lim.dma_alignment;
}

static void run_scalar(void *arg)
{
	struct target *t = arg;
	struct nt_ns *ns = t->ns;
	__u32 align = alignment(ns), max = nt_place_max(ns);
	/* who sends a command, or reaps it, does not matter for its data */
	bool little = t->mode->setup & ~IORING_SETUP_IOPOLL;
	struct handles h;
	int kind;

	nt_place_fill(ns, 0, wire, max, ns->nsid * 7 + t->mode->setup);
	map_all(ns, &h);
	for (kind = 0; kind < NT_KINDS; kind++) {
		const char *what = nt_kind_name(kind);
		unsigned char *at = areas[kind].at;

		if (!have[kind] || (little && kind != NT_SMALL))
			continue;
		spans(ns, what, h.whole[kind], at, AREA, align);
		if (kind != NT_SMALL || little)
			continue;
		spans(ns, what, h.part[kind], at + SKIP, AREA - SKIP, align);
		list_ends(ns, what, h.whole[kind], at, 0);
		list_ends(ns, what, h.part[kind], at + SKIP, SKIP);
	}
	unmap_all(ns, &h);
	nt_ring_quiet(&ring);
}

struct segments {
	struct nvme_ng_segment seg[MAX_SEGMENTS];
	unsigned char *at[MAX_SEGMENTS];
	unsigned int nr;
};

/*
 * Data in several regions, each segment in another one than that before.  With
 * @pages they meet at page boundaries, as PRPs demand.
 */
static void make_segments(struct segments *s, const struct handles *h,
			  unsigned int nr, __u32 len, bool pages,
			  unsigned int seed)
{
	/* pages of each area, taken from its start; one is left between */
	__u32 next[NT_KINDS] = { 0 };
	__u32 each = len / nr / 4 * 4;
	unsigned int i, kind = seed;

	if (pages)
		each = each < NT_PAGE ? NT_PAGE : each / NT_PAGE * NT_PAGE;
	memset(s, 0, sizeof(*s));
	for (i = 0; len; i++) {
		struct nvme_ng_segment *seg = &s->seg[s->nr];
		bool part = i & 1;
		__u32 n = each, at;

		do {
			kind = (kind + 1) % NT_KINDS;
		} while (!have[kind]);
		at = next[kind] * NT_PAGE;
		if (part && !at)
			at = ++next[kind] * NT_PAGE;
		if (pages) {
			/* the first ends a page, the others begin one */
			if (!i) {
				at += 1024;
				n = NT_PAGE - 1024;
			}
		} else {
			at += (seed + i) % 512 * 4;
		}
		if (n > len || s->nr == MAX_SEGMENTS - 2)
			n = len;
		next[kind] += (at % NT_PAGE + n + NT_PAGE - 1) / NT_PAGE + 1;
		if (next[kind] * NT_PAGE > AREA)
			nt_die("segments want more than an area");
		s->at[s->nr] = areas[kind].at + at;
		seg->region = part ? h->part[kind] : h->whole[kind];
		seg->offset = part ? at - SKIP : at;
		seg->len = n;
		len -= n;
		s->nr++;
		/* one of no length is passed over, whatever it names */
		if (i == 1) {
			s->at[s->nr] = areas[0].at;
			s->seg[s->nr++].region = 12345;
		}
	}
}

static void copy_segments(const struct segments *s, unsigned char *data,
			  bool out)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++) {
		if (out)
			memcpy(s->at[i], data, s->seg[i].len);
		else
			memcpy(data, s->at[i], s->seg[i].len);
		data += s->seg[i].len;
	}
}

static void one_vector(struct nt_ns *ns, const struct segments *s, __u32 len)
{
	struct nvme_uring_cmd cmd;
	char how[64];
	unsigned int i;

	snprintf(how, sizeof(how), "%u segments", s->nr);
	copy_segments(s, wire, true);
	nt_place_reset(ns, 0);
	place_cmd(ns, true, len, &cmd);
	cmd.addr = (uintptr_t)s->seg;
	cmd.data_len = s->nr;
	succeeded(how, "write", 0, len,
		  run(ns, NVME_NG_URING_CMD_IO_VEC, &cmd, 0));
	read_back(ns, len);
	same(how, "what was written", 0, len, back, wire, len);

	for (i = 0; i < s->nr; i++)
		memset(s->at[i], NT_POISON, s->seg[i].len + 4);
	place_cmd(ns, false, len, &cmd);
	cmd.addr = (uintptr_t)s->seg;
	cmd.data_len = s->nr;
	succeeded(how, "read", 0, len,
		  run(ns, NVME_NG_URING_CMD_IO_VEC, &cmd, 0));
	copy_segments(s, back, false);
	same(how, "what was read", 0, len, back, wire, len);
	for (i = 0; i < s->nr; i++)
		if (s->seg[i].len && s->at[i][s->seg[i].len] != NT_POISON)
			nt_fail("%s: the byte behind segment %u is changed",
				how, i);
}

static void run_vectored(void *arg)
{
	static const struct {
		unsigned int nr;
		__u32 len;
	} shapes[] = {
		{ 1, 4096 }, { 2, 8192 }, { 3, 16384 }, { 8, 40000 },
		{ 33, 200000 }, { 250, 250000 }, { 128, -1U },
	};
	struct target *t = arg;
	struct nt_ns *ns = t->ns;
	__u32 max = nt_place_max(ns), i, pages;
	static struct segments s;
	bool prp = alignment(ns) == 4;
	struct handles h;

	nt_place_fill(ns, 0, wire, max, ns->nsid * 9 + t->mode->setup);
	map_all(ns, &h);
	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		__u32 len = whole_units(ns, shapes[i].len, max);

		for (pages = prp; pages < 2; pages++) {
			make_segments(&s, &h, shapes[i].nr, len, pages, i);
			one_vector(ns, &s, len);
		}
	}
	unmap_all(ns, &h);
	nt_ring_quiet(&ring);
}

/* Separate metadata, from the region of the data and from another one. */
static void run_metadata(void *arg)
{
	struct target *t = arg;
	struct nt_ns *ns = t->ns;
	__u32 granule[NT_KINDS], region[NT_KINDS];
	int fd = ns->dev.fd, kind, other;
	__u32 max, data, blocks, i;

	if (!ns->ms || ns->extended)
		nt_skip("no separate metadata");
	max = nt_place_max(ns) / ns->lba_size;
	for (kind = 0; kind < NT_KINDS; kind++)
		if (have[kind])
			nt_status(nt_map_area(fd, &areas[kind], 0, &region[kind],
					      &granule[kind]), 0);
	for (kind = 0; kind < 2 * NT_KINDS; kind++) {
		for (i = 0; i < 3; i++) {
			struct nvme_uring_cmd cmd;
			unsigned char *own_meta;
			__u32 meta_len, at;

			data = kind % NT_KINDS;
			other = (kind * 5 + kind / NT_KINDS) % NT_KINDS;
			if (!have[data] || !have[other])
				continue;
			blocks = i == 0 ? 1 : i == 1 ? 3 : max;
			meta_len = blocks * ns->ms;
			at = NT_HUGE + 8 * i;
			if (i == 1)
				at += NT_PAGE - meta_len;
			own_meta = areas[other].at + at;
			if (granule[other] && at / NT_PAGE !=
			    (at + meta_len - 1) / NT_PAGE)
				at = NT_HUGE;
			own_meta = areas[other].at + at;

			nt_fill(wire, blocks * ns->lba_size, kind * 3 + i);
			memcpy(areas[data].at, wire, blocks * ns->lba_size);
			nt_fill(own_meta, meta_len, 100 + kind * 3 + i);
			nt_place_cmd(ns, 0, true, blocks * ns->lba_size, &cmd);
			cmd.cdw2 = meta_len;
			cmd.data_len = blocks * ns->lba_size;
			cmd.metadata = at;
			cmd.metadata_len = meta_len;
			nt_status(nt_region_run(&ring, fd, NVME_NG_URING_CMD_IO,
						&cmd, region[data],
						region[other]), 0);
			memcpy(back + NT_HUGE, own_meta, meta_len);
			memset(areas[data].at, NT_POISON, cmd.data_len);
			memset(own_meta, NT_POISON, meta_len + 8);

			nt_place_cmd(ns, 0, false, blocks * ns->lba_size, &cmd);
			cmd.cdw2 = meta_len;
			cmd.data_len = blocks * ns->lba_size;
			cmd.metadata = at;
			cmd.metadata_len = meta_len;
			nt_status(nt_region_run(&ring, fd, NVME_NG_URING_CMD_IO,
						&cmd, region[data],
						region[other]), 0);
			nt_same(areas[data].at, wire, cmd.data_len);
			nt_same(own_meta, back + NT_HUGE, meta_len);
			nt_eq(own_meta[meta_len], NT_POISON);
		}
	}
	for (kind = 0; kind < NT_KINDS; kind++)
		if (have[kind])
			nt_status(nt_unmap(fd, region[kind]), 0);
	nt_ring_quiet(&ring);
}

/* Refusals */

static int map_raw(int fd, struct nvme_ng_map *m)
{
	return ioctl(fd, NVME_NG_IOCTL_MAP, m) ? -errno : 0;
}

static void run_map_refused(void *arg)
{
	struct target *t = arg;
	int fd = t->ns->dev.fd, i;
	struct {
		struct nvme_ng_map m;
		unsigned char more[8192];
	} big;
	const struct nvme_ng_map good = {
		.size = sizeof(good),
		.addr = (uintptr_t)areas[NT_SMALL].at,
		.len = 8192,
		.dmabuf_fd = -1,
	};
	struct nvme_ng_map m;
	unsigned long pins = nt_pins();
	unsigned char *hole;
	__u32 zero = 0, unused = 7, huge = -1U;

	m = good;
	m.size = 39;
	nt_status(map_raw(fd, &m), -EINVAL);
	m.size = 0;
	nt_status(map_raw(fd, &m), -EINVAL);
	m.size = NT_PAGE + 1;
	nt_status(map_raw(fd, &m), -EINVAL);
	for (i = 2; i < 32; i++) {
		m = good;
		m.flags = 1U << i;
		nt_status(map_raw(fd, &m), -EINVAL);
	}
	m = good;
	m.rsvd = 1;
	nt_status(map_raw(fd, &m), -EINVAL);
	m = good;
	m.len = 0;
	nt_status(map_raw(fd, &m), -EINVAL);
	m = good;
	m.len = -m.addr;
	nt_status(map_raw(fd, &m), -EINVAL);
	m.len = -1ULL;
	nt_status(map_raw(fd, &m), -EINVAL);
	m = good;
	m.dmabuf_fd = 0;
	nt_status(map_raw(fd, &m), -EINVAL);
	m = good;
	m.addr = 0xffff800000000000ULL;
	nt_status(map_raw(fd, &m), -EFAULT);

	/* a larger structure, of a program that knows more */
	memset(&big, 0, sizeof(big));
	big.m = good;
	big.m.size = NT_PAGE;
	nt_status(map_raw(fd, &big.m), 0);
	nt_status(nt_unmap(fd, big.m.region), 0);
	big.m.size = 48;
	big.more[7] = 1;
	nt_status(map_raw(fd, &big.m), -EINVAL);
	nt_eq(ioctl(fd, NVME_NG_IOCTL_MAP, NULL), -1);
	nt_eq(errno, EFAULT);

	/* memory that is not there, cannot be read, cannot be written */
	hole = mmap(NULL, 4 * NT_PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	m = good;
	m.addr = (uintptr_t)hole;
	m.len = 4 * NT_PAGE;
	munmap(hole + 2 * NT_PAGE, NT_PAGE);
	nt_status(map_raw(fd, &m), -EFAULT);
	munmap(hole, NT_PAGE);
	nt_status(map_raw(fd, &m), -EFAULT);
	m.addr += NT_PAGE;
	m.len = NT_PAGE;
	mprotect(hole + NT_PAGE, NT_PAGE, PROT_READ);
	nt_status(map_raw(fd, &m), -EFAULT);
	m.flags = NVME_NG_MAP_READ_ONLY;
	nt_status(map_raw(fd, &m), 0);
	nt_status(nt_unmap(fd, m.region), 0);
	mprotect(hole + NT_PAGE, NT_PAGE, PROT_NONE);
	nt_status(map_raw(fd, &m), -EFAULT);

	/* dma-bufs that are none */
	m = good;
	m.flags = NVME_NG_MAP_DMABUF;
	m.addr = 0;
	nt_status(map_raw(fd, &m), -EBADF);
	m.dmabuf_fd = 12345;
	nt_status(map_raw(fd, &m), -EBADF);
	m.dmabuf_fd = fd;
	nt_status(map_raw(fd, &m), -EINVAL);
	if (have[NT_DMABUF]) {
		m.dmabuf_fd = areas[NT_DMABUF].dmabuf;
		m.addr = AREA - 8191;
		nt_status(map_raw(fd, &m), -EINVAL);
		m.addr = AREA;
		nt_status(map_raw(fd, &m), -EINVAL);
		m.addr = AREA - 8192;
		nt_status(map_raw(fd, &m), 0);
		nt_status(nt_unmap(fd, m.region), 0);
	}

	nt_status(nt_unmap(fd, zero), -ENOENT);
	nt_status(nt_unmap(fd, unused), -ENOENT);
	nt_status(nt_unmap(fd, huge), -ENOENT);
	nt_eq(ioctl(fd, NVME_NG_IOCTL_UNMAP, NULL), -1);
	nt_eq(errno, EFAULT);
	m = good;
	nt_status(map_raw(fd, &m), 0);
	nt_eq(!m.region, false);
	nt_status(nt_unmap(fd, m.region), 0);
	nt_status(nt_unmap(fd, m.region), -ENOENT);
	nt_eq(nt_pins(), pins);
}

static int region_read(struct nt_ns *ns, __u32 region, __u64 at, __u32 len)
{
	struct nvme_uring_cmd cmd;

	place_cmd(ns, false, len, &cmd);
	cmd.addr = at;
	cmd.data_len = len;
	return run(ns, NVME_NG_URING_CMD_IO, &cmd, region);
}

static int segment_read(struct nt_ns *ns, __u32 region, __u64 at, __u32 len)
{
	struct nvme_ng_segment seg[2] = {
		{ .region = region, .offset = at, .len = len },
		{ .region = 54321 },
	};
	struct nvme_uring_cmd cmd;

	place_cmd(ns, false, len, &cmd);
	cmd.addr = (uintptr_t)seg;
	cmd.data_len = 2;
	return run(ns, NVME_NG_URING_CMD_IO_VEC, &cmd, 0);
}

static int broken_read(struct nt_ns *ns, __u32 op, __u32 region, __u32 len,
		       void (*change)(struct io_uring_sqe *sqe, __u32 len))
{
	struct nvme_uring_cmd cmd;
	unsigned int name;
	int res;

	place_cmd(ns, false, len, &cmd);
	cmd.data_len = len;
	change(nt_region_put(&ring, ns->dev.fd, op, &cmd, region, meta_region),
	       len);
	nt_ring_submit(&ring);
	if (!nt_ring_reap(&ring, 60000, &name, &res))
		nt_die("no completion within 60 s");
	return res;
}

static struct nvme_ng_uring_cmd *ng(struct io_uring_sqe *sqe)
{
	return (void *)sqe->cmd;
}

static void set_flags(struct io_uring_sqe *sqe, __u32 len)
{
	(void)len;
	ng(sqe)->flags = 1;
}

static void set_rsvd1(struct io_uring_sqe *sqe, __u32 len)
{
	(void)len;
	ng(sqe)->rsvd1 = 1;
}

static void set_rsvd2(struct io_uring_sqe *sqe, __u32 len)
{
	(void)len;
	ng(sqe)->rsvd2 = 1U << 31;
}

static void set_nsid(struct io_uring_sqe *sqe, __u32 len)
{
	(void)len;
	ng(sqe)->nsid++;
}

static void set_fixed(struct io_uring_sqe *sqe, __u32 len)
{
	(void)len;
	sqe->rw_flags = IORING_URING_CMD_FIXED;
	sqe->buf_index = 0;
}

static void set_shorter(struct io_uring_sqe *sqe, __u32 len)
{
	ng(sqe)->data_len = len / 2;
}

static void run_refused(void *arg)
{
	static void (*const changes[])(struct io_uring_sqe *sqe, __u32 len) = {
		set_flags, set_rsvd1, set_rsvd2, set_nsid, set_fixed,
	};
	static int (*const reads[])(struct nt_ns *ns, __u32 region, __u64 at,
				    __u32 len) = { region_read, segment_read };
	struct target *t = arg;
	struct nt_ns *ns = t->ns;
	__u32 len = whole_units(ns, 4096, -1U), align = alignment(ns);
	__u32 limit = nt_place_max(ns), region, other, ro, granule, i;
	struct nvme_ng_segment seg = { 0 };
	struct nvme_ng_limits lim;
	struct nvme_uring_cmd cmd;
	unsigned char *ro_at;
	struct iovec iov;
	int fd = ns->dev.fd, other_fd;

	nt_status(nt_limits(fd, &lim), 0);
	nt_status(nt_map_area(fd, &areas[NT_SMALL], 0, &region, &granule), 0);
	/* what was never written may have no protection information */
	nt_place_fill(ns, 0, wire, limit, 77);
	one_span(ns, "small pages", region, areas[NT_SMALL].at, 0, limit);
	nt_place_fill(ns, 0, wire, len, 77);
	one_span(ns, "small pages", region, areas[NT_SMALL].at, 0, len);
	/* a handle of another file, beyond those of this one */
	other_fd = open(ns->dev.path, O_RDWR | O_CLOEXEC);
	for (i = 0; i < 3; i++)
		nt_status(nt_map(other_fd, 0, areas[NT_THP].at, NT_PAGE, &other),
			  0);

	for (i = 0; i < ARRAY_SIZE(reads); i++) {
		nt_status(reads[i](ns, region, 0, len), 0);
		nt_status(reads[i](ns, 0, 0, len), -ENOENT);
		nt_status(reads[i](ns, other, 0, len), -ENOENT);
		nt_status(reads[i](ns, 65535, 0, len), -ENOENT);
		nt_status(reads[i](ns, 65536, 0, len), -ENOENT);
		nt_status(reads[i](ns, -1U, 0, len), -ENOENT);
		nt_status(reads[i](ns, region, AREA, len), -EFAULT);
		nt_status(reads[i](ns, region, AREA - len + 4, len), -EFAULT);
		nt_status(reads[i](ns, region, -4ULL, len), -EFAULT);
		nt_status(reads[i](ns, region, -(__u64)len, len), -EFAULT);
		nt_status(reads[i](ns, region, 1ULL << 40, len), -EFAULT);
		nt_status(reads[i](ns, region, AREA - len, len), 0);
		if (align == 4)
			nt_status(reads[i](ns, region, 1, len), -EINVAL);
		/* longer than the controller takes */
		nt_status(reads[i](ns, region, 0, lim.max_transfer + NT_PAGE),
			  -EINVAL);
		nt_status(reads[i](ns, region, 0, -4U), -EINVAL);
		nt_status(reads[i](ns, region, 0, limit), 0);
	}

	iov.iov_base = areas[NT_SMALL].at;
	iov.iov_len = NT_PAGE;
	nt_eq(io_uring_register_buffers(&ring.ring, &iov, 1), 0);
	for (i = 0; i < ARRAY_SIZE(changes); i++) {
		int ret = broken_read(ns, NVME_NG_URING_CMD_IO, region, len,
				      changes[i]);

		if (ret != -EINVAL)
			nt_fail("change %u: got %d, expected -EINVAL", i, ret);
		ret = broken_read(ns, NVME_NG_URING_CMD_IO_VEC, 0, 0,
				  changes[i]);
		if (ret != -EINVAL)
			nt_fail("change %u, vectored: got %d, expected -EINVAL",
				i, ret);
	}
	nt_eq(io_uring_unregister_buffers(&ring.ring), 0);
	/* PRPs do not tell the length, so more than there is must be refused */
	if (align == 4 && ns->csi != NVME_CSI_ECHO &&
	    nt_place_unit(ns) <= len / 2)
		nt_eq(broken_read(ns, NVME_NG_URING_CMD_IO, region, len,
				  set_shorter), -EINVAL);

	/* vectors that cannot be */
	place_cmd(ns, false, len, &cmd);
	cmd.addr = (uintptr_t)&seg;
	cmd.data_len = lim.max_segments + 1;
	nt_status(run(ns, NVME_NG_URING_CMD_IO_VEC, &cmd, 0), -EINVAL);
	cmd.addr = 0;
	cmd.data_len = 1;
	nt_status(run(ns, NVME_NG_URING_CMD_IO_VEC, &cmd, 0), -EFAULT);
	/* each segment names its own */
	cmd.addr = (uintptr_t)&seg;
	nt_status(run(ns, NVME_NG_URING_CMD_IO_VEC, &cmd, region), -EINVAL);

	/* read only: for the device, too */
	ro_at = mmap(NULL, 4 * NT_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	nt_status(nt_map(fd, 0, ro_at, 4 * NT_PAGE, &ro), -EFAULT);
	nt_status(nt_map(fd, NVME_NG_MAP_READ_ONLY, ro_at, 4 * NT_PAGE, &ro),
		  0);
	for (i = 0; i < ARRAY_SIZE(reads); i++)
		nt_status(reads[i](ns, ro, 0, len), -EFAULT);
	nt_status(nt_unmap(fd, ro), 0);
	nt_status(nt_map(fd, NVME_NG_MAP_READ_ONLY, areas[NT_SMALL].at, AREA,
			 &ro), 0);
	memset(back, 0, len);
	memcpy(areas[NT_SMALL].at, wire, len);
	nt_place_reset(ns, 0);
	place_cmd(ns, true, len, &cmd);
	cmd.data_len = len;
	nt_status(run(ns, NVME_NG_URING_CMD_IO, &cmd, ro),
		  0);
	read_back(ns, len);
	nt_same(back, wire, len);
	nt_status(nt_unmap(fd, ro), 0);
	munmap(ro_at, 4 * NT_PAGE);

	/* after it is unmapped */
	nt_status(nt_unmap(fd, region), 0);
	for (i = 0; i < ARRAY_SIZE(reads); i++)
		nt_status(reads[i](ns, region, 0, len), -ENOENT);
	close(other_fd);
	nt_ring_quiet(&ring);
}

/*
 * Memory that the program writes to only after it was mapped for reading: the
 * device must not see what was there before, nor a page that all share.
 */
static void run_read_only(void *arg)
{
	struct target *t = arg;
	struct nt_ns *ns = t->ns;
	__u32 len = whole_units(ns, 4 * NT_PAGE, -1U), region, kind;
	unsigned char *at[3];
	struct nvme_uring_cmd cmd;
	int fd = ns->dev.fd, memfd;

	memfd = memfd_create("nvme-test", MFD_CLOEXEC);
	if (memfd < 0 || ftruncate(memfd, 2 * NT_HUGE))
		nt_die("cannot make a memfd: %m");
	at[0] = mmap(NULL, NT_HUGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	at[1] = mmap(NULL, NT_HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, memfd,
		     0);
	at[2] = mmap(NULL, NT_HUGE, PROT_READ, MAP_SHARED, memfd, NT_HUGE);
	for (kind = 0; kind < ARRAY_SIZE(at); kind++) {
		if (at[kind] == MAP_FAILED)
			nt_die("cannot map memory: %m");
		if (kind == 2)
			nt_status(nt_map(fd, 0, at[kind], NT_HUGE, &region),
				  -EFAULT);
		nt_status(nt_map(fd, NVME_NG_MAP_READ_ONLY, at[kind], NT_HUGE,
				 &region), 0);
		nt_place_fill(ns, 0, wire, len, 31 + kind);
		if (kind < 2)
			memcpy(at[kind] + NT_PAGE, wire, len);
		else if (pwrite(memfd, wire, len, NT_HUGE + NT_PAGE) != len)
			nt_fail("pwrite: %m");
		nt_place_reset(ns, 0);
		place_cmd(ns, true, len, &cmd);
		cmd.addr = NT_PAGE;
		cmd.data_len = len;
		nt_status(run(ns, NVME_NG_URING_CMD_IO, &cmd, region), 0);
		read_back(ns, len);
		same("read-only memory", "what was written", NT_PAGE, len, back,
		     wire, len);
		nt_status(nt_unmap(fd, region), 0);
		munmap(at[kind], NT_HUGE);
	}
	close(memfd);
	nt_ring_quiet(&ring);
}

/* A command without data needs no region, nor a file that ever had one. */
static void run_no_data(void *arg)
{
	struct target *t = arg;
	struct nt_ns *ns = t->ns;
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_FLUSH,
		.nsid = ns->nsid,
	};
	int fd;

	if (ns->csi != NVME_CSI_NVM)
		nt_skip("no Flush in this command set");
	fd = open(ns->dev.path, O_RDWR | O_CLOEXEC);
	nt_status(nt_region_run(&ring, fd, NVME_NG_URING_CMD_IO, &cmd, 0, 0), 0);
	nt_status(nt_region_run(&ring, fd, NVME_NG_URING_CMD_IO_VEC, &cmd, 0,
				0), 0);
	close(fd);
	nt_status(nt_region_run(&ring, ns->dev.fd, NVME_NG_URING_CMD_IO, &cmd,
				0, 0), 0);
	nt_ring_quiet(&ring);
}

static void run_metadata_refused(void *arg)
{
	struct target *t = arg;
	struct nt_ns *ns = t->ns;
	__u32 region, ro, granule;
	struct nvme_uring_cmd cmd;
	int fd = ns->dev.fd;

	if (ns->csi != NVME_CSI_NVM || ns->pi)
		nt_skip("not a namespace with or without plain metadata");
	nt_status(nt_map_area(fd, &areas[NT_SMALL], 0, &region, &granule), 0);
	nt_status(nt_map(fd, NVME_NG_MAP_READ_ONLY, areas[NT_SMALL].at,
			 2 * NT_PAGE, &ro), 0);
	nt_place_cmd(ns, 0, false, ns->lba_size, &cmd);
	cmd.data_len = ns->lba_size;
	cmd.metadata = NT_PAGE;
	cmd.metadata_len = ns->ms ? ns->ms : 8;
#define META(handle) \
	nt_region_run(&ring, fd, NVME_NG_URING_CMD_IO, &cmd, region, handle)
	if (!ns->ms) {
		nt_status(META(region), -EINVAL);
		goto out;
	}
	cmd.cdw2 = ns->ms;
	nt_status(META(region), 0);
	nt_status(META(0), -ENOENT);
	nt_status(META(999), -ENOENT);
	nt_status(META(ro), -EFAULT);
	cmd.metadata = AREA - ns->ms + 4;
	nt_status(META(region), -EFAULT);
	cmd.metadata = -4ULL;
	nt_status(META(region), -EFAULT);
	cmd.metadata = 2;
	nt_status(META(region), -EINVAL);
	/* none is wanted; or less than the command reads */
	cmd.metadata = 0;
	cmd.metadata_len = 0;
	nt_status(META(0), 0);
	cmd.metadata_len = ns->ms - 4;
	nt_status(META(region), -EINVAL);
	cmd.metadata_len = 1 << 20;
	nt_status(META(region), -EINVAL);
	if (granule) {
		__u32 i, crossed = 0;

		/* pages that are no neighbours are somewhere in there */
		cmd.metadata_len = ns->ms;
		for (i = 1; i < 64; i++) {
			int ret;

			cmd.metadata = i * granule - 4;
			ret = META(region);
			if (ret == -EINVAL)
				crossed++;
			else
				nt_status(ret, 0);
		}
		nt_eq(!crossed, false);
	}
#undef META
out:
	nt_status(nt_unmap(fd, region), 0);
	nt_status(nt_unmap(fd, ro), 0);
	nt_ring_quiet(&ring);
}

/* RLIMIT_MEMLOCK counts for a user, over all files, until it is unmapped. */
static void memlock(void *arg)
{
	struct target *t = arg;
	struct rlimit limit = { 256 << 10, 256 << 10 };
	int fd = t->ns->dev.fd, other, i;
	unsigned char *at = areas[NT_SMALL].at;
	__u32 a, b;

	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		nt_fail("setrlimit: %m");
	for (i = 0; i < 3; i++) {
		nt_status(nt_map(fd, 0, at, (256 << 10) + 1, &a), -ENOMEM);
		nt_status(nt_map(fd, 0, at + 1, 256 << 10, &a), -ENOMEM);
		nt_status(nt_map(fd, 0, at, 256 << 10, &a), 0);
		nt_status(nt_map(fd, NVME_NG_MAP_READ_ONLY, at, 1, &b),
			  -ENOMEM);
		nt_status(nt_unmap(fd, a), 0);
		/* what fails costs nothing */
		nt_status(nt_map(fd, 0, NULL, 4096, &a), -EFAULT);
	}
	nt_status(nt_map(fd, 0, at, 128 << 10, &a), 0);
	other = dup(fd);
	nt_status(nt_map(other, 0, at, 128 << 10, &b), 0);
	nt_status(nt_map(other, 0, at, 1, &b), -ENOMEM);
	nt_status(nt_unmap(fd, a), 0);
	nt_status(nt_unmap(other, b), -ENOENT);
	nt_status(nt_unmap(fd, a), -ENOENT);
}

static void run_memlock(void *arg)
{
	struct target *t = arg, theirs = *t;
	struct nt_ns ns = *t->ns;
	int i;

	theirs.ns = &ns;
	/* the second time nothing may be left of the first */
	for (i = 0; i < 2; i++) {
		ns.dev.fd = nt_open_as(&t->ns->dev, NT_TESTER, O_RDWR);
		if (ns.dev.fd < 0)
			nt_fail("cannot open %s: %s", t->ns->dev.path,
				strerror(-ns.dev.fd));
		nt_as(NT_TESTER, memlock, &theirs);
		close(ns.dev.fd);
		usleep(100000);
	}
}

/* Every handle, which is found as fast as the first, and no more. */
static void run_many(void *arg)
{
	struct target *t = arg;
	struct nt_ns *ns = t->ns;
	__u32 len = nt_place_unit(ns) == 1 ? 512 : nt_place_unit(ns);
	unsigned char *at = areas[NT_SMALL].at;
	const unsigned int most = 65535;
	unsigned long pins = nt_pins();
	static bool used[65536];
	int fd, saved = ns->dev.fd;
	__u32 region, other, i;

	memset(used, 0, sizeof(used));
	fd = open(ns->dev.path, O_RDWR | O_CLOEXEC);
	ns->dev.fd = fd;
	nt_status(nt_map(fd, 0, meta.at, NT_PAGE, &meta_region), 0);
	used[meta_region] = true;
	for (i = 1; i < most; i++) {
		nt_status(nt_map(fd, 0, at + i % 1500 * NT_PAGE, NT_PAGE,
				 &region), 0);
		if (!region || region > most || used[region])
			nt_fail("region %u after %u others", region, i);
		used[region] = true;
	}
	nt_status(nt_map(fd, 0, at, NT_PAGE, &other), -EMFILE);
	nt_place_fill(ns, 0, wire, len, 5);
	one_span(ns, "the last", region, at + (most - 1) % 1500 * NT_PAGE, 8,
		 len);
	nt_status(nt_unmap(fd, 1000), 0);
	nt_status(nt_map(fd, 0, at, NT_PAGE, &region), 0);
	nt_eq(region, 1000);
	one_span(ns, "that in between", 1000, at, 8, len);
	for (i = 1; i <= most; i += 2)
		nt_status(nt_unmap(fd, i), 0);
	/* the rest ends with the file */
	ns->dev.fd = saved;
	close(fd);
	for (i = 0; i < 100 && nt_pins() != pins; i++)
		usleep(100000);
	nt_eq(nt_pins(), pins);
	nt_ring_quiet(&ring);
}

/* Rings */

#define RINGS	8
#define DEPTH	32

/* Reads through rings and files at the same time; each completes once. */
static void crowd(struct nt_ns *ns, unsigned int rings, unsigned int files)
{
	static struct nt_ring r[RINGS];
	__u32 len = whole_units(ns, 4096, -1U), region[RINGS], granule;
	__u32 meta_handle[RINGS];
	unsigned int i, j, n, name, done = 0, mode;
	struct nvme_uring_cmd cmd;
	int fd[RINGS], res;
	unsigned char *at = areas[NT_SMALL].at;

	nt_place_fill(ns, 0, wire, len, rings * 10 + files);
	for (i = 0; i < files; i++) {
		fd[i] = open(ns->dev.path, O_RDWR | O_CLOEXEC);
		nt_status(nt_map_area(fd[i], &areas[NT_SMALL], 0, &region[i],
				      &granule), 0);
		nt_status(nt_map(fd[i], 0, meta.at, NT_PAGE, &meta_handle[i]),
			  0);
	}
	nt_ring_open(&ring, 8, 0);
	ns->dev.fd = fd[0];
	meta_region = meta_handle[0];
	one_span(ns, "small pages", region[0], at, 0, len);
	nt_ring_close(&ring);
	for (i = 0; i < rings; i++) {
		mode = i % 3 == 2 ? 4 : 3;
		nt_ring_open(&r[i], DEPTH, nt_modes[mode].setup);
	}
	memset(at, 0, rings * DEPTH * 8192);
	for (n = 0; n < 6; n++) {
		for (i = 0; i < rings; i++) {
			for (j = 0; j < DEPTH; j++) {
				place_cmd(ns, false, len, &cmd);
				cmd.addr = (i * DEPTH + j) * 4096 % (AREA / 2);
				cmd.data_len = len;
				nt_region_put(&r[i], fd[(i + j) % files],
					      NVME_NG_URING_CMD_IO, &cmd,
					      region[(i + j) % files],
					      meta_handle[(i + j) % files]);
				if (j % 8 == 7)
					nt_ring_submit(&r[i]);
			}
		}
		for (i = 0; i < rings; i++) {
			while (r[i].flying) {
				if (!nt_ring_reap(&r[i], 60000, &name, &res))
					nt_die("ring %u: %u commands did not complete within 60 s",
					       i, r[i].flying);
				nt_status(res, 0);
				done++;
			}
		}
	}
	nt_eq(done, 6 * DEPTH * rings);
	for (i = 0; i < rings * DEPTH; i++)
		nt_same(at + (__u64)i * 4096 % (AREA / 2), wire, len);
	for (i = 0; i < rings; i++) {
		nt_ring_quiet(&r[i]);
		nt_ring_close(&r[i]);
	}
	for (i = 0; i < files; i++)
		close(fd[i]);
}

static void run_two_files(void *arg)
{
	crowd(((struct target *)arg)->ns, 1, 2);
}

static void run_two_rings(void *arg)
{
	crowd(((struct target *)arg)->ns, 2, 1);
}

static void run_many_rings(void *arg)
{
	crowd(((struct target *)arg)->ns, RINGS, RINGS);
}

struct one {
	const char *name;
	void (*run)(void *arg);
};

static const struct one in_ring[] = {
	{ "scalar", run_scalar },
	{ "vectored", run_vectored },
	{ "metadata", run_metadata },
	{ "refused", run_refused },
	{ "metadata_refused", run_metadata_refused },
	{ "read_only", run_read_only },
	{ "no_data", run_no_data },
};

static const struct one once[] = {
	{ "map_refused", run_map_refused },
	{ "memlock", run_memlock },
	{ "two_files", run_two_files },
	{ "two_rings", run_two_rings },
	{ "many_rings", run_many_rings },
};

static const char *only = "";
static bool counting;
static unsigned int counted;

static bool option(const char *arg)
{
	if (strncmp(arg, "--only=", 7))
		return false;
	only = arg + 7;
	return true;
}

static void test(struct nt_ns *ns, const char *name, const struct nt_mode *mode,
		 void (*body)(void *arg))
{
	struct target t = { .ns = ns, .mode = mode };
	char full[128];
	bool own = body == run_two_files || body == run_two_rings ||
		   body == run_many_rings;
	int saved = ns->dev.fd;

	snprintf(full, sizeof(full), "%s %s %s", ns->name, mode->name, name);
	if (!strstr(full, only))
		return;
	if (counting) {
		counted++;
		return;
	}
	if (nt_pass_over())
		return;
	/* what a case that failed leaves behind ends with its file */
	ns->dev.fd = open(ns->dev.path, O_RDWR | O_CLOEXEC);
	if (ns->dev.fd < 0 || nt_map(ns->dev.fd, 0, meta.at, NT_PAGE,
				     &meta_region))
		nt_die("cannot open %s and map memory", ns->dev.path);
	if (!own)
		nt_ring_open(&ring, 64, mode->setup);
	nt_test(body, &t, "%s", full);
	if (!own)
		nt_ring_close(&ring);
	close(ns->dev.fd);
	ns->dev.fd = saved;
}

static void all(struct nt_ns *ns, size_t n)
{
	size_t i, m, c;

	for (i = 0; i < n; i++) {
		for (m = 0; m < NT_MODES; m++)
			for (c = 0; c < ARRAY_SIZE(in_ring); c++)
				test(&ns[i], in_ring[c].name, &nt_modes[m],
				     in_ring[c].run);
		for (c = 0; c < ARRAY_SIZE(once); c++)
			test(&ns[i], once[c].name, &nt_modes[0], once[c].run);
	}
	test(&ns[0], "many", &nt_modes[3], run_many);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test commands with data in regions.",
		.wants = "known",
		.fits = nt_place_known,
		.usage = "  --only=TEXT  only cases with TEXT in the name",
		.option = option,
	};
	struct nt_ns *ns;
	size_t n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	make_memory();
	if (!have[NT_DMABUF])
		nt_note("no dma-bufs: the kernel has no /dev/udmabuf");
	counting = true;
	all(ns, n);
	counting = false;
	nt_plan(counted);
	all(ns, n);
	return nt_end();
}
