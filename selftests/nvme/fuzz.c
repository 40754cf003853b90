// SPDX-License-Identifier: GPL-2.0
/*
 * Whatever an unprivileged user sends, the device keeps within the buffer of
 * the command: generated commands of every command set, with lengths that lie
 * in both directions, bad memory and odd places, by every kind of ring and by
 * ioctl.  Each completes once, with an NVMe status or an errno that says
 * something.  Neither pages nor memory are lost, and the kernel stays silent.
 *
 * Every run with the same seed and count generates the same commands.  For more
 * than a million on one kernel:
 *
 *   qemu/vm run --iommu strict --timeout 3600 --share build/selftests -- \
 *	/mnt/share/nvme/fuzz --testbed --count=1100000 --seed=1
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ring.h"
#include "watch.h"

#define NVME_CMD_COPY	0x19

#define SEED		20261124ULL
#define COUNT		200000
#define WARM_UP		3000

#define BATCH		64	/* commands in flight */
#define SLOT		(64 << 10)
#define BIG_SLOT	(1 << 20)
#define META_SLOT	NT_PAGE
#define MAX_PIECES	300
#define GUARD		32	/* bytes, where there is room */
#define MAX_TARGETS	128

/* what the kernel may need more in the end, for reasons of its own */
#define SLACK_KB	2048

/* a node that commands are sent to */
struct target {
	const char *name;
	const char *path;
	struct nt_ns *ns;	/* NULL: a controller */
	int rw, ro;
	unsigned long sent, ok, device, eacces, einval, efault, other;
};

struct guard {
	unsigned char *at;
	__u32 len;
};

/* memory and whereabouts of a command in flight */
struct slot {
	unsigned char *mem;
	size_t size;
	unsigned char *meta;
	struct iovec iov[MAX_PIECES];
	unsigned int pieces;
	struct guard guards[2 * MAX_PIECES + 2];
	unsigned int nr_guards;
	unsigned char guard;
	struct nvme_uring_cmd cmd;
	struct target *target;
	__u32 op;
};

/* how a run sends its commands */
struct kind {
	const char *name;
	unsigned int setup;
	unsigned int share;	/* of the count, in percent */
	bool by_ioctl;
};

static const struct kind kinds[] = {
	{ "ring", 0, 40, false },
	{ "polled ring", IORING_SETUP_IOPOLL, 35, false },
	{ "ring with a thread", IORING_SETUP_SQPOLL, 15, false },
	{ "ioctl", 0, 10, true },
};

static unsigned long seed = SEED, count = COUNT;
static __u64 state;

static struct target targets[MAX_TARGETS];
static unsigned int nr_targets;
static struct slot slots[BATCH];
static unsigned char *arena, *readonly, *cliff;
static size_t arena_size;

static __u64 rnd(void)
{
	return nt_random(&state);
}

static __u32 below(__u32 n)
{
	return (rnd() >> 32) * n >> 32;
}

static bool chance(unsigned int percent)
{
	return below(100) < percent;
}

#define ONE_OF(a)	((a)[below(ARRAY_SIZE(a))])

/*
 * Memory: slots with a page between any two that belongs to nobody, then a page
 * that may only be read, then one for anything, then nothing.
 */
static void make_memory(void)
{
	size_t at = NT_PAGE;
	unsigned int i;

	arena_size = NT_PAGE + BIG_SLOT + BATCH * (SLOT + META_SLOT +
						   2 * NT_PAGE);
	arena = mmap(NULL, arena_size + 3 * NT_PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED)
		nt_die("cannot allocate %zu bytes: %m", arena_size);
	memset(arena, NT_POISON, arena_size + NT_PAGE);
	for (i = 0; i < BATCH; i++) {
		slots[i].mem = arena + at;
		slots[i].size = i ? SLOT : BIG_SLOT;
		at += slots[i].size + NT_PAGE;
		slots[i].meta = arena + at;
		at += META_SLOT + NT_PAGE;
	}
	readonly = arena + arena_size;
	cliff = readonly + NT_PAGE;
	if (mprotect(readonly, NT_PAGE, PROT_READ) ||
	    mprotect(cliff + NT_PAGE, NT_PAGE, PROT_NONE))
		nt_die("mprotect: %m");
}

static void nobody_wrote(const unsigned char *page)
{
	static unsigned char want[NT_PAGE];

	memset(want, NT_POISON, sizeof(want));
	if (memcmp(page, want, sizeof(want)))
		nt_fail("the page at arena + %#zx has changed",
			(size_t)(page - arena));
}

static void check_memory(void)
{
	unsigned int i;

	nobody_wrote(arena);
	for (i = 0; i < BATCH; i++) {
		nobody_wrote(slots[i].mem + slots[i].size);
		nobody_wrote(slots[i].meta + META_SLOT);
	}
	nobody_wrote(readonly);
}

static void add_guard(struct slot *s, unsigned char *at, size_t len)
{
	if (!len)
		return;
	memset(at, s->guard, len);
	s->guards[s->nr_guards].at = at;
	s->guards[s->nr_guards++].len = len;
}

/* Memory that is not there, may not be written, or is the kernel's. */
static void *bad_memory(void)
{
	switch (below(7)) {
	case 0:
		return (void *)(unsigned long)below(NT_PAGE);
	case 1:
		return readonly + below(64) * 4;
	case 2:
		return cliff - 4 * below(64);
	case 3:
		return cliff + NT_PAGE - 4 * below(64);
	case 4:
		return (void *)-4096UL;
	case 5:
		return (void *)0xffff888000000000UL;
	default:
		return (void *)0x8000000000000000UL;
	}
}

/* Where a piece of @len bytes begins, from @at on. */
static size_t place(size_t at, size_t len)
{
	size_t page = (at + NT_PAGE - 1) & -NT_PAGE;

	switch (below(8)) {
	case 0:
	case 1:
	case 2:		/* at the start of a page */
		return page;
	case 3:
	case 4:		/* up to the end of a page */
		return page + (-len & (NT_PAGE - 1));
	case 5:		/* without a gap */
		return at;
	case 6:
		return at + 4 * below(256);
	default:
		return at + below(256);
	}
}

/* Spread @len bytes over the slot; what finds no room is left out. */
static __u32 lay_out(struct slot *s, __u32 len, unsigned int pieces)
{
	size_t at, last = 0, left = len;
	unsigned int i;
	__u32 sum = 0;

	s->nr_guards = 0;
	s->guard = rnd();
	s->pieces = pieces;
	for (i = 0; i < pieces; i++) {
		size_t part = i + 1 == pieces ? left : left / (pieces - i);

		if (i + 1 < pieces && chance(20))
			part = below(left + 1);
		if (i + 1 < pieces && chance(40))
			part &= -NT_PAGE;
		at = place(last, part);
		if (at > s->size)
			at = s->size;
		if (part > s->size - at)
			part = s->size - at;

		add_guard(s, s->mem + (at - last > GUARD ? at - GUARD : last),
			  at - last > GUARD ? GUARD : at - last);
		s->iov[i].iov_base = s->mem + at;
		s->iov[i].iov_len = part;
		left -= part;
		sum += part;
		last = at + part;
		/* sometimes the next piece may follow at once */
		if (s->size - last >= GUARD && (i + 1 == pieces || chance(70))) {
			add_guard(s, s->mem + last, GUARD);
			last += GUARD;
		}
	}
	return sum;
}

/* For somebody who wants to know what went wrong. */
static void describe(const struct slot *s)
{
	const __u32 *dw = (const __u32 *)&s->cmd;
	unsigned int i;

	nt_note("%s op %#x, slot at %p, %zu bytes, metadata at %p",
		s->target->path, s->op, s->mem, s->size, s->meta);
	for (i = 0; i < sizeof(s->cmd) / 4; i++)
		nt_note("  dword %2u of the command: %08x", i, dw[i]);
	for (i = 0; i < s->pieces; i++)
		nt_note("  %zu bytes at %p", s->iov[i].iov_len,
			s->iov[i].iov_base);
}

static void check_guards(const struct slot *s)
{
	unsigned int i;
	__u32 j;

	for (i = 0; i < s->nr_guards; i++)
		for (j = 0; j < s->guards[i].len; j++) {
			if (s->guards[i].at[j] == s->guard)
				continue;
			describe(s);
			nt_fail("byte %u of %u at %p, beside the buffer, has changed",
				j, s->guards[i].len, s->guards[i].at);
		}
}

/* A length that is not the one it should be. */
static __u32 lie(__u32 len)
{
	switch (below(9)) {
	case 0:
		return len - 1;
	case 1:
		return len - 4;
	case 2:
		return len / 2;
	case 3:
		return len + 4;
	case 4:
		return len + 1;
	case 5:
		return len + below(2 * NT_PAGE);
	case 6:
		return below(len + 1);
	case 7:
		return rnd();
	default:
		return 0;
	}
}

/* A length: small ones more often. */
static __u32 some_length(void)
{
	static const __u32 most[] = {
		64, NT_PAGE, 2 * NT_PAGE, 3 * NT_PAGE, 8 * NT_PAGE, SLOT,
	};

	return below(ONE_OF(most)) + 1;
}

/* Commands that move blocks. */
static void block_command(const struct nt_ns *ns, bool big,
			  struct nvme_uring_cmd *cmd, __u32 *data, __u32 *meta)
{
	__u32 most = (big && chance(50) ? BIG_SLOT : SLOT / 2) / ns->lba_size;
	__u64 zone = (4 << 20) / ns->lba_size, lba;
	__u32 nlb = below(most ? most : 1) + 1;

	if (chance(60) && nlb > 8)
		nlb = below(8) + 1;
	lba = below(ns->nsze);
	if (chance(80) && lba + nlb > ns->nsze)
		lba = 0;
	if (ns->csi == NVME_CSI_ZNS && chance(70))
		lba -= lba % zone;
	if (chance(2))
		lba = rnd();
	if (chance(3))
		nlb = below(0x10000) + 1;
	cmd->cdw10 = lba;
	cmd->cdw11 = lba >> 32;
	cmd->cdw12 = nlb - 1;
	if (chance(15))
		cmd->cdw12 |= below(0x10000) << 16;
	cmd->cdw14 = chance(50) ? lba : rnd();
	cmd->cdw15 = rnd();

	*data = nlb * ns->lba_size;
	if (!ns->ms)
		return;
	/* PRACT: the controller makes and strips what the host does not see */
	if (cmd->cdw12 >> 29 & 1 && ns->pi && ns->ms == 8)
		return;
	if (ns->extended)
		*data += nlb * ns->ms;
	else
		*meta = nlb * ns->ms;
}

/* Fill in a command; *data and *meta are what it makes the device move. */
static void namespace_command(const struct nt_ns *ns, bool big,
			      struct nvme_uring_cmd *cmd, __u32 *data,
			      __u32 *meta)
{
	static const __u8 nvm[] = {
		2, 2, 2, 2, 1, 1, 1, 5, 5, 8, 9, 0x0c, 4, 0x0d, 0x0e, 0x11,
		0x15, 0x12,
	};
	static const __u8 zns[] = {
		2, 2, 2, 1, 0x7d, 0x7d, 0x7d, 0x7a, 0x7a, 0x79, 0x79, 5, 9, 8,
	};
	static const __u8 kv[] = { 1, 1, 2, 2, 2, 6, 6, 0x10, 0x14, 0x0e };
	static const __u8 echo[] = { 5, 5, 6, 6, 6, 1, 2, 0 };

	cmd->nsid = ns->nsid;
	cmd->cdw10 = rnd();
	cmd->cdw11 = rnd();
	cmd->cdw13 = chance(80) ? 0 : rnd();
	switch (ns->csi) {
	case NVME_CSI_KV:
		cmd->opcode = ONE_OF(kv);
		cmd->cdw2 = below(16);
		*data = some_length();
		cmd->cdw10 = *data;
		cmd->cdw11 = below(20) | (chance(10) ? below(256) << 8 : 0);
		break;
	case NVME_CSI_ECHO:
		cmd->opcode = ONE_OF(echo);
		*data = some_length();
		cmd->cdw10 = *data;
		break;
	case NVME_CSI_ZNS:
		cmd->opcode = ONE_OF(zns);
		break;
	default:
		cmd->opcode = ONE_OF(nvm);
	}
	if (chance(4))
		cmd->opcode = rnd();
	/* a Flush waits for the host's disk, a bad Copy ends QEMU 10.0 */
	if ((!cmd->opcode && chance(95)) || cmd->opcode == NVME_CMD_COPY)
		cmd->opcode = 2;

	if (cmd->opcode == 0x0d || cmd->opcode == 0x11 || cmd->opcode == 0x15) {
		*data = 16;
		return;
	}
	if (cmd->opcode == 0x0e) {
		cmd->cdw10 = below(512);
		*data = (cmd->cdw10 + 1) * 4;
		return;
	}
	if (!ns->lba_size)
		return;
	switch (cmd->opcode) {
	case NVME_CMD_DSM:
		cmd->cdw10 = below(8);
		*data = (cmd->cdw10 + 1) * 16;
		cmd->cdw11 = below(8);
		break;
	case NVME_CMD_ZONE_MGMT_SEND:
		cmd->cdw10 = below(16) * ((4 << 20) / ns->lba_size);
		cmd->cdw11 = 0;
		cmd->cdw13 = below(6);
		*data = chance(90) ? 0 : some_length();
		break;
	case NVME_CMD_ZONE_MGMT_RECV:
		cmd->cdw10 = below(16) * ((4 << 20) / ns->lba_size);
		cmd->cdw11 = 0;
		*data = some_length() * 4;
		cmd->cdw12 = *data / 4 - 1;
		break;
	default:
		block_command(ns, big, cmd, data, meta);
	}
}

static void admin_command(struct nvme_uring_cmd *cmd, __u32 *data)
{
	static const __u8 cns[] = { 0, 1, 5, 6, 8, 2, 3, 7 };

	cmd->opcode = chance(90) ? NVME_ADMIN_IDENTIFY : rnd();
	cmd->nsid = chance(80) ? below(8) : rnd();
	cmd->cdw10 = chance(95) ? ONE_OF(cns) : rnd();
	cmd->cdw11 = below(4) << 24;
	*data = 4096;
}

/* What the program claims to have for the metadata. */
static void lay_out_meta(struct slot *s, __u32 meta)
{
	__u32 at;

	if (!meta && !chance(3))
		return;
	if (chance(25))
		meta = lie(meta);
	if (meta > META_SLOT)
		meta = META_SLOT;
	at = chance(50) ? META_SLOT - meta : 0;
	if (chance(20))
		at = below(META_SLOT - meta + 1);
	if (at)
		add_guard(s, s->meta + at - (at < GUARD ? at : GUARD),
			  at < GUARD ? at : GUARD);
	if (META_SLOT - at - meta >= GUARD)
		add_guard(s, s->meta + at + meta, GUARD);
	s->cmd.metadata = chance(97) ? (uintptr_t)(s->meta + at) :
			  (uintptr_t)bad_memory();
	s->cmd.metadata_len = meta;
}

/* The test bed wants to know the true length, in fields of no other use. */
static void declare(const struct nt_ns *ns, struct nvme_uring_cmd *cmd,
		    __u32 len)
{
	if (!ns->testbed)
		return;
	if (ns->csi == NVME_CSI_KV) {
		cmd->cdw12 = len;
		return;
	}
	cmd->cdw3 = len;
	cmd->cdw2 = cmd->metadata_len;
}

/* The next command, with its memory: true if it is vectored. */
static bool generate(struct slot *s)
{
	static const __u32 timeouts[] = { 60000, 600000, ~0U };
	struct nvme_uring_cmd *cmd = &s->cmd;
	__u32 data = 0, meta = 0, len, i;
	unsigned int pieces = 1;
	bool vec = chance(35);

	s->target = &targets[below(nr_targets)];
	memset(cmd, 0, sizeof(*cmd));
	if (s->target->ns)
		namespace_command(s->target->ns, s == slots, cmd, &data, &meta);
	else
		admin_command(cmd, &data);

	len = chance(35) ? lie(data) : data;
	if (vec)
		pieces = below(chance(10) ? MAX_PIECES : 8) + chance(95);
	len = lay_out(s, len, pieces);
	lay_out_meta(s, meta);
	if (s->target->ns)
		declare(s->target->ns, cmd, len);

	if (pieces && chance(4))
		s->iov[below(pieces)].iov_base = bad_memory();
	if (vec && pieces && chance(1))
		s->iov[below(pieces)].iov_len = chance(50) ? rnd() : ~0UL;
	cmd->addr = (uintptr_t)s->iov;
	cmd->data_len = pieces;
	if (vec && chance(2))
		cmd->addr = (uintptr_t)bad_memory();
	if (vec && chance(2))
		cmd->data_len = chance(50) ? rnd() | 1U << 31 : 1025;
	if (!vec) {
		cmd->addr = (uintptr_t)s->iov[0].iov_base;
		cmd->data_len = s->iov[0].iov_len;
	}
	/* beyond the elements that are filled in */
	for (i = pieces; vec && i < MAX_PIECES && i < cmd->data_len; i++)
		s->iov[i].iov_len = 0;

	if (chance(3))
		cmd->flags = rnd();
	if (chance(2))
		cmd->nsid = rnd();
	if (chance(10))
		cmd->rsvd1 = rnd();
	if (chance(5))
		cmd->timeout_ms = ONE_OF(timeouts);
	return vec;
}

static void put(struct nt_ring *r, struct slot *s)
{
	bool vec = generate(s), admin = !s->target->ns;
	struct io_uring_sqe *sqe;
	int buf = NT_UNREGISTERED;

	s->op = vec ? NVME_URING_CMD_IO_VEC : NVME_URING_CMD_IO;
	if (admin != chance(1))
		s->op = vec ? NVME_URING_CMD_ADMIN_VEC : NVME_URING_CMD_ADMIN;
	if (chance(1))
		s->op ^= 1U << below(32);
	/* the other form takes the elements for data, or data for elements */
	if (!admin && s->op == (vec ? NVME_URING_CMD_IO :
				      NVME_URING_CMD_IO_VEC))
		declare(s->target->ns, &s->cmd, vec ? s->cmd.data_len : 0);
	if (chance(40))
		buf = chance(97) ? 0 : below(4);
	sqe = nt_ring_put(r, chance(60) ? s->target->rw : s->target->ro, s->op,
			  buf, &s->cmd);
	if (chance(1))
		sqe->rw_flags = rnd();
}

/* What an ioctl says: a number of ours stands for none of its own. */
static int by_ioctl(struct slot *s)
{
	static const unsigned long ops[] = {
		NVME_IOCTL_IO_CMD, NVME_IOCTL_IO64_CMD, NVME_IOCTL_IO64_CMD,
	};
	bool vec = generate(s), admin = !s->target->ns;
	struct nvme_passthru_cmd64 c = { 0 };
	unsigned long op = vec ? NVME_IOCTL_IO64_CMD_VEC : ONE_OF(ops);
	struct nvme_user_io io = {
		.opcode = s->cmd.opcode,
		.nblocks = s->cmd.cdw12,
		.control = s->cmd.cdw12 >> 16,
		.metadata = s->cmd.metadata,
		.addr = s->cmd.addr,
		.slba = s->cmd.cdw10 | (__u64)s->cmd.cdw11 << 32,
	};
	int fd, ret;

	if (admin != chance(1))
		op = chance(50) ? NVME_IOCTL_ADMIN_CMD :
				  NVME_IOCTL_ADMIN64_CMD;
	fd = chance(60) ? s->target->rw : s->target->ro;
	memcpy(&c, &s->cmd, sizeof(s->cmd));
	s->op = op;
	/*
	 * This one gives no length, the blocks do: only where they are sure to
	 * fit, and there is no field to declare it in.
	 */
	if (!vec && !admin && chance(10) && s->target->ns->lba_size &&
	    s->cmd.data_len >= (io.nblocks + 1U) * (s->target->ns->lba_size +
						    s->target->ns->ms) &&
	    !s->target->ns->ms) {
		s->op = NVME_IOCTL_SUBMIT_IO;
		ret = ioctl(fd, NVME_IOCTL_SUBMIT_IO, &io);
	} else {
		ret = ioctl(fd, op, chance(98) ? (void *)&c : bad_memory());
	}
	return ret < 0 ? -errno : ret;
}

/* Count the result; one that says nothing to a program fails the case. */
static void judge(struct slot *s, int res)
{
	struct target *t = s->target;

	t->sent++;
	switch (res) {
	case 0:
		t->ok++;
		break;
	case -EACCES:
		t->eacces++;
		break;
	case -EINVAL:
		t->einval++;
		break;
	case -EFAULT:
		t->efault++;
		break;
	case -ENOTTY:
	case -EOPNOTSUPP:
		t->other++;
		break;
	default:
		if (res > 0 && res < 0x8000) {
			t->device++;
			break;
		}
		describe(s);
		nt_fail("completed with %d", res);
	}
	check_guards(s);
}

static void run_batch(struct nt_ring *r)
{
	unsigned int first = r->next, name, i;
	int res;

	for (i = 0; i < BATCH; i++)
		put(r, &slots[i]);
	nt_ring_submit(r);
	for (i = 0; i < BATCH; i++) {
		if (!nt_ring_reap(r, 60000, &name, &res))
			nt_die("%u commands have no completion after 60 s",
			       r->flying);
		judge(&slots[(name - first) % ARRAY_SIZE(r->seen)], res);
	}
}

static void show(void)
{
	unsigned long sent = 0, ok = 0, device = 0, refused = 0;
	unsigned int i;

	nt_note("%-10s %8s %8s %8s %8s %8s %8s %6s", "node", "sent", "success",
		"status", "EACCES", "EINVAL", "EFAULT", "other");
	for (i = 0; i < nr_targets; i++) {
		struct target *t = &targets[i];

		nt_note("%-10s %8lu %8lu %8lu %8lu %8lu %8lu %6lu", t->name,
			t->sent, t->ok, t->device, t->eacces, t->einval,
			t->efault, t->other);
		sent += t->sent;
		ok += t->ok;
		device += t->device;
		refused += t->eacces + t->einval + t->efault;
	}
	/* neither all refused nor all accepted */
	if (ok < sent / 20 || device < sent / 20 || refused < sent / 20)
		nt_fail("of %lu: %lu worked, device refused %lu, kernel %lu: too few",
			sent, ok, device, refused);
}

/* As the unprivileged user. */
static void run_kind(void *arg)
{
	const struct kind *k = arg;
	unsigned long n = count * k->share / 100, i;
	struct nt_ring *r = malloc(sizeof(*r));
	struct iovec iov;

	if (!r)
		nt_die("no memory");
	state = seed + (k - kinds);
	make_memory();
	iov.iov_base = arena;
	iov.iov_len = arena_size;
	if (!k->by_ioctl) {
		nt_ring_open(r, BATCH, k->setup | IORING_SETUP_SUBMIT_ALL);
		nt_eq(io_uring_register_buffers(&r->ring, &iov, 1), 0);
	}
	for (i = 0; i < n; i += BATCH) {
		unsigned int j;

		if (!k->by_ioctl)
			run_batch(r);
		for (j = 0; k->by_ioctl && j < BATCH; j++)
			judge(&slots[j], by_ioctl(&slots[j]));
		if (i % (64 * BATCH) == 0)
			check_memory();
	}
	check_memory();
	if (!k->by_ioctl) {
		nt_ring_quiet(r);
		nt_ring_close(r);
	}
	show();
}

static void fuzz(void *arg)
{
	nt_as(NT_TESTER, run_kind, arg);
}

static void warm_up(void *arg)
{
	unsigned long all = count;
	size_t i;

	(void)arg;
	count = WARM_UP;
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		fuzz((void *)&kinds[i]);
	count = all;
}

/* A command of root that says less than it moves is counted. */
static void counted(void *arg)
{
	struct nt_ns *ns = arg;
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_READ,
		.nsid = ns->nsid,
		.addr = (uintptr_t)nt_alloc(ns->lba_size, 0),
		.data_len = ns->lba_size,
		.cdw3 = ns->lba_size / 2,
	};

	nt_eq(nt_oob(ns->ctrl.fd), 0);
	nt_status(nt_dev_ioctl(ns->dev.fd, NVME_IOCTL_IO64_CMD, &cmd, NULL),
		  NVME_SC_SUCCESS);
	nt_eq(nt_oob(ns->ctrl.fd), 1);
	nt_oob_reset(ns->ctrl.fd);
}

static void inside(void *arg)
{
	const struct nt_dev *ctrl;

	for (ctrl = arg; ctrl->fd; ctrl++)
		if (nt_oob(ctrl->fd))
			nt_fail("%s: %u accesses outside of buffers",
				ctrl->path, nt_oob(ctrl->fd));
}

static void silent(void *arg)
{
	(void)arg;
	nt_log_quiet();
}

static void freed(void *arg)
{
	long *before = arg, now = nt_kernel_kb();

	nt_note("memory of the kernel: %ld kB before, %ld kB now", *before,
		now);
	if (now > *before + SLACK_KB)
		nt_fail("%ld kB are lost", now - *before);
}

static void add_target(struct nt_dev *dev, struct nt_ns *ns)
{
	struct target *t = &targets[nr_targets++];

	if (nr_targets == MAX_TARGETS)
		nt_die("too many nodes");
	t->name = ns ? ns->name : dev->serial;
	t->path = dev->path;
	t->ns = ns;
	t->rw = nt_open_as(dev, NT_TESTER, O_RDWR);
	t->ro = nt_open_as(dev, NT_TESTER, O_RDONLY);
	if (t->rw < 0 || t->ro < 0)
		nt_die("cannot open %s as uid %u", dev->path, NT_TESTER);
}

static bool option(const char *arg)
{
	return sscanf(arg, "--seed=%lu", &seed) == 1 ||
	       sscanf(arg, "--count=%lu", &count) == 1;
}

static int by_name(const void *a, const void *b)
{
	const struct nt_dev *x = a, *y = b;

	return strcmp(x->serial, y->serial);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Try to make devices touch memory outside of buffers, as uid 1000.",
		.wants = "suitable",
		.serial = "NVMENG-",
		.usage = "  --count=N  generate N commands\n"
			 "  --seed=N   generate others\n",
		.option = option,
	};
	struct rlimit lock = { 256 << 20, 256 << 20 };
	struct nt_ns *ns, *plain = NULL;
	struct nt_dev *ctrl;
	size_t i, n, nctrl;
	long before;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	ctrl = nt_controllers(&nctrl);
	/* the same targets in the same order in every run */
	qsort(ctrl, nctrl, sizeof(*ctrl), by_name);
	for (i = 0; i < n; i++) {
		add_target(&ns[i].dev, &ns[i]);
		if (ns[i].testbed && ns[i].csi == NVME_CSI_NVM && !ns[i].ms &&
		    ns[i].lba_size == 512)
			plain = &ns[i];
	}
	for (i = 0; i < nctrl; i++)
		add_target(&ctrl[i], NULL);
	if (setrlimit(RLIMIT_MEMLOCK, &lock))
		nt_die("setrlimit: %m");

	nt_plan(!!plain + 1 + ARRAY_SIZE(kinds) + !!plain + 3);
	nt_note("seed %lu, %lu commands", seed, count);
	if (plain)
		nt_test(counted, plain, "the device counts");
	nt_pins_mark();
	/* caches of the kernel grow with the first commands of each kind */
	nt_test(warm_up, NULL, "warming up");
	before = nt_kernel_kb();
	nt_log_mark();
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		nt_test(fuzz, (void *)&kinds[i], "%s", kinds[i].name);
	if (plain)
		nt_test(inside, ctrl, "nothing outside of buffers");
	nt_test(silent, NULL, "the kernel says nothing");
	nt_pins_test();
	nt_test(freed, &before, "no memory is lost");
	return nt_end();
}
