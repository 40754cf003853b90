// SPDX-License-Identifier: GPL-2.0
/*
 * Who may send what: every opcode of both queues, every CNS, Feature Identifier
 * and Log Page Identifier, in every form, by each kind of sender, against the
 * tables that gen_access.py makes of Documentation/access.rst.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "access_rules.h"
#include "region.h"

#define NO_SUCH_NSID	0xfffffffeU
#define MAX_SHOWN	8

/*
 * Asynchronous Event Request, Namespace Management and Attachment, Doorbell
 * Buffer Config, Format NVM, Sanitize
 */
enum {
	ADMIN_AER = 0x0c,
	ADMIN_NS_MGMT = 0x0d,
	ADMIN_NS_ATTACH = 0x15,
	ADMIN_DBBUF = 0x7c,
	ADMIN_FORMAT = 0x80,
	ADMIN_SANITIZE = 0x84,
};

/* A sender: @cap as long as the process has all of root's capabilities. */
static const struct sender {
	const char *name;
	uid_t uid;
	int flags;
	bool cap;
} senders[] = {
	{ "reader", NT_TESTER, O_RDONLY, false },
	{ "writer", NT_TESTER, O_RDWR, false },
	{ "root_without_capability", 0, O_RDWR, false },
	{ "root_reading", 0, O_RDONLY, true },
};

/*
 * The forms of a command through a ring. A form of the driver that is missing
 * here fails the case "every form": operations of no form must be ENOTTY.
 */
enum nt_form {
	FORM_IO,
	FORM_IO_FIXED,
	FORM_IO_VEC,
	FORM_IO_VEC_FIXED,
	FORM_REGION,
	FORM_REGION_VEC,
	FORM_ARRAY,
	FORM_ADMIN,
	FORM_ADMIN_FIXED,
	FORM_ADMIN_VEC,
	FORM_ADMIN_VEC_FIXED,
	FORMS,
};

static const struct {
	const char *name;
	__u32 op;
	enum access_queue queue;
	bool vec;
	bool fixed;
	bool region;
	bool array;
} forms[] = {
	[FORM_IO] = { .name = "IO", .op = NVME_URING_CMD_IO },
	[FORM_IO_FIXED] = {
		.name = "IO, registered", .op = NVME_URING_CMD_IO,
		.fixed = true,
	},
	[FORM_IO_VEC] = {
		.name = "IO_VEC", .op = NVME_URING_CMD_IO_VEC, .vec = true,
	},
	[FORM_IO_VEC_FIXED] = {
		.name = "IO_VEC, registered", .op = NVME_URING_CMD_IO_VEC,
		.vec = true, .fixed = true,
	},
	[FORM_REGION] = {
		.name = "NG IO", .op = NVME_NG_URING_CMD_IO, .region = true,
	},
	[FORM_REGION_VEC] = {
		.name = "NG IO_VEC", .op = NVME_NG_URING_CMD_IO_VEC,
		.vec = true, .region = true,
	},
	[FORM_ARRAY] = {
		.name = "NG ARRAY", .op = NVME_NG_URING_CMD_ARRAY,
		.region = true, .array = true,
	},
	[FORM_ADMIN] = {
		.name = "ADMIN", .op = NVME_URING_CMD_ADMIN,
		.queue = ACCESS_ADMIN,
	},
	[FORM_ADMIN_FIXED] = {
		.name = "ADMIN, registered", .op = NVME_URING_CMD_ADMIN,
		.queue = ACCESS_ADMIN, .fixed = true,
	},
	[FORM_ADMIN_VEC] = {
		.name = "ADMIN_VEC", .op = NVME_URING_CMD_ADMIN_VEC,
		.queue = ACCESS_ADMIN, .vec = true,
	},
	[FORM_ADMIN_VEC_FIXED] = {
		.name = "ADMIN_VEC, registered", .op = NVME_URING_CMD_ADMIN_VEC,
		.queue = ACCESS_ADMIN, .vec = true, .fixed = true,
	},
};

static_assert(ARRAY_SIZE(forms) == FORMS, "a form has no line");

/*
 * The ways of a form. The first region command of a polled ring gets a queue
 * of the ring; what a worker thread sends is always a request.
 */
enum way {
	WAY_IRQ,
	WAY_IOPOLL,
	WAY_SQPOLL,
	WAY_IOPOLL_SQPOLL,
	WAY_WORKER,
	WAY_IOPOLL_WORKER,
	WAYS,
};

static const struct {
	const char *name;
	unsigned int setup;
	bool worker;
} ways[] = {
	[WAY_IRQ] = { "by interrupt", 0, false },
	[WAY_IOPOLL] = { "polled", IORING_SETUP_IOPOLL, false },
	[WAY_SQPOLL] = { "by SQPOLL", IORING_SETUP_SQPOLL, false },
	[WAY_IOPOLL_SQPOLL] = { "by SQPOLL, polled", IORING_SETUP_IOPOLL |
				IORING_SETUP_SQPOLL, false },
	[WAY_WORKER] = { "by a worker", 0, true },
	[WAY_IOPOLL_WORKER] = { "by a worker, polled", IORING_SETUP_IOPOLL,
				true },
};

static_assert(ARRAY_SIZE(ways) == WAYS, "a way has no line");

/* The ioctls, of which the controller's node knows those for admin commands. */
static const struct {
	const char *name;
	unsigned long op;
	enum access_queue queue;
	bool vec;
} ioctls[] = {
	{ "IOCTL_IO_CMD", NVME_IOCTL_IO_CMD, ACCESS_IO, false },
	{ "IOCTL_IO64_CMD", NVME_IOCTL_IO64_CMD, ACCESS_IO, false },
	{ "IOCTL_IO64_CMD_VEC", NVME_IOCTL_IO64_CMD_VEC, ACCESS_IO, true },
	{ "IOCTL_ADMIN_CMD", NVME_IOCTL_ADMIN_CMD, ACCESS_ADMIN, false },
	{ "IOCTL_ADMIN64_CMD", NVME_IOCTL_ADMIN64_CMD, ACCESS_ADMIN, false },
};

/* as 32-bit programs have it, without the padding at the end */
#define SUBMIT_IO32	_IOC(_IOC_WRITE, 'N', 0x42, \
			     offsetof(struct nvme_user_io, appmask) + 2)

/* Ioctls that send nothing, or what NVME_IOCTL_SUBMIT_IO takes. */
static const unsigned long other_ioctls[] = {
	NVME_IOCTL_ID, NVME_IOCTL_SUBMIT_IO, SUBMIT_IO32, NVME_IOCTL_RESET,
	NVME_IOCTL_SUBSYS_RESET, NVME_IOCTL_RESCAN, NVME_NG_IOCTL_LIMITS,
	NVME_NG_IOCTL_MAP, NVME_NG_IOCTL_UNMAP, NVME_NG_IOCTL_RING,
};

/* through a ring and by ioctl, for admin commands of two nodes */
#define IO_FORMS	(FORM_ADMIN + 3)
#define ADMIN_IOCTLS	2
#define ADMIN_FORMS	(FORMS - FORM_ADMIN + 2 * ADMIN_IOCTLS)

/* commands in a ring at a time */
#define BATCH	256

/* a block of the largest format, which NVME_IOCTL_SUBMIT_IO needs all of */
#define BLOCK	(128 << 10)

struct job {
	struct nt_ns *ns;
	const struct sender *sender;
	enum access_queue queue;
	bool first;		/* the controller's own node is asked once */
	bool thorough;		/* every opcode by every way */
	unsigned int turn;	/* differs between namespaces */
	unsigned int form, forms;	/* of this queue, counted through */
	__u32 effects[256];	/* of the I/O commands */
	bool prp_only;
	struct nt_dev node;
	struct nt_dev ctrl;
	struct iovec vec;
	struct nvme_ng_segment segment;
	void *data;
	void *meta;
	__u32 region;
	__u32 meta_region;
	struct nt_results results;
	unsigned int sent;
	unsigned int wrong;
};

static struct nt_ring rings[WAYS];

/* The rule that decides. */
static const struct access_rule *find_rule(const struct job *j, __u8 opcode,
					   __u8 dw10)
{
	const struct access_rule *r;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(access_rules); i++) {
		r = &access_rules[i];
		if (r->queue == j->queue && access_within(j->ns->csi, &r->csi) &&
		    access_within(opcode, &r->opcode) && access_within(dw10, &r->dw10) &&
		    access_holds(r->condition, j->ns->csi, opcode,
				 j->effects[opcode], j->prp_only))
			return r;
	}
	nt_die("no rule for opcode %02xh", opcode);
}

static bool may_send(const struct job *j, __u8 opcode, __u8 dw10)
{
	switch (find_rule(j, opcode, dw10)->needs) {
	case ACCESS_READ:
		return true;
	case ACCESS_WRITE:
		return j->sender->cap || j->sender->flags == O_RDWR;
	case ACCESS_CAP:
		return j->sender->cap;
	case ACCESS_NOBODY:
		break;
	}
	return false;
}

/*
 * A command that is let through has to reach the controller, which answers
 * with some status; one that is not has to end in EACCES.
 */
static void judge(struct job *j, const char *form, const char *way,
		  __u8 opcode, __u8 dw10, int got)
{
	const struct access_rule *r = find_rule(j, opcode, dw10);
	bool may = may_send(j, opcode, dw10);

	j->sent++;
	if (may ? got >= 0 : got == -EACCES)
		return;
	if (j->wrong++ >= MAX_SHOWN)
		return;
	nt_note("%s %s, opcode %02xh, CDW10 7:0 %02xh: %s %d, expected %s",
		form, way, opcode, dw10, got < 0 ? "errno" : "status",
		got < 0 ? -got : got, may ? "a status" : "errno 13 (EACCES)");
	nt_note("  the rule is number %td of the generated table; effects %#x",
		r - access_rules, j->effects[opcode]);
}

/* Where the data is, as the form wants it. */
static void set_data(struct job *j, bool vec, bool region,
		     struct nvme_uring_cmd *cmd)
{
	if (vec)
		cmd->addr = region ? (uintptr_t)&j->segment :
				     (uintptr_t)&j->vec;
	else
		cmd->addr = region ? 0 : (uintptr_t)j->data;
	cmd->data_len = vec ? 1 : NT_PAGE;
	if (cmd->metadata_len)
		cmd->metadata = region ? 0 : (uintptr_t)j->meta;
}

/* The admin commands that CDW10 7:0 decides about. */
static const struct sweep {
	__u8 opcode;
	__u32 cdw10;		/* beside bits 7:0 */
	bool csi;		/* in CDW11 31:24 */
	bool only_refused;	/* it would change something */
} sweeps[] = {
	/* 4096 bytes; events stay */
	{ NVME_ADMIN_GET_LOG, 0x3ff << 16 | 1 << 15, false, false },
	{ NVME_ADMIN_IDENTIFY, 0, true, false },
	{ NVME_ADMIN_SET_FEATURES, 0, false, true },
	{ NVME_ADMIN_GET_FEATURES, 0, false, false },
};

static const struct sweep *find_sweep(__u8 opcode)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sweeps); i++)
		if (sweeps[i].opcode == opcode)
			return &sweeps[i];
	return NULL;
}

/*
 * With the capability a few rules let most commands pass, and each form has
 * many of them. They are sent in one form each, which takes turns: I/O commands
 * that are not supported or vendor specific, admin commands that make the driver
 * scan all namespaces, and most of the sweeps.
 */
static bool takes_turns(const struct job *j, const struct nvme_uring_cmd *cmd)
{
	const struct access_rule *r = find_rule(j, cmd->opcode, cmd->cdw10);

	if (!j->sender->cap)
		return false;
	if (j->queue == ACCESS_IO)
		return r->condition == ACCESS_NO_CSUPP ||
			(r->opcode.first == 0x80 && r->opcode.last == 0xff);
	switch (cmd->opcode) {
	case ADMIN_NS_MGMT:
	case ADMIN_NS_ATTACH:
	case ADMIN_FORMAT:
	case ADMIN_SANITIZE:
		return true;
	}
	return find_sweep(cmd->opcode) && !r->dw10.first &&
		r->dw10.last == 0xff;
}

static bool has_turn(const struct job *j, const struct nvme_uring_cmd *cmd)
{
	return !takes_turns(j, cmd) ||
		(cmd->opcode + (cmd->cdw10 & 0xff) + j->turn) % j->forms ==
			j->form;
}

/*
 * How the command of an array has ended.  One that only the capability lets pass
 * goes by itself, which is said to who has it only.
 */
static int array_status(struct job *j, __u8 opcode, int status)
{
	if (status != -EOPNOTSUPP)
		return status;
	if (j->sender->cap &&
	    (find_rule(j, opcode, 0xff)->needs == ACCESS_CAP ||
	     j->sender->flags != O_RDWR))
		return 0;
	/* of a length that nobody knows: not sent this way, and not alone */
	return j->prp_only ? -EACCES : status;
}

/* The same in one array, what is not taken in another. */
static void send_array(struct job *j, enum nt_form form, enum way way,
		       const struct nvme_uring_cmd *cmds, unsigned int n)
{
	static struct nvme_ng_array_cmd array[BATCH];
	unsigned int i, name, taken = 0, tries = 0;
	unsigned char seen[BATCH] = { };
	struct io_uring_sqe *sqe;
	int res, status;
	__u64 tag;

	for (i = 0; i < n; i++) {
		struct nvme_uring_cmd cmd = cmds[i];

		set_data(j, false, true, &cmd);
		memset(&array[i], 0, sizeof(array[i]));
		memcpy(&array[i].cmd, &cmd, sizeof(cmd));
		array[i].cmd.region = j->region;
		array[i].cmd.meta_region = cmd.metadata_len ? j->meta_region : 0;
		array[i].tag = i;
	}
	while (taken < n) {
		sqe = nt_array_put(&rings[way], j->node.fd, array + taken,
				   n - taken, j->results.ring);
		if (ways[way].worker)
			sqe->flags |= IOSQE_ASYNC;
		nt_ring_submit(&rings[way]);
		if (!nt_ring_reap(&rings[way], 60000, &name, &res))
			nt_die("%s, %s: no completion within 60 s",
			       forms[form].name, ways[way].name);
		/* a scan freezes the namespace */
		if (res == -EAGAIN && tries++ < 1000)
			usleep(10000);
		else if (res <= 0)
			nt_fail("%s, %s: the array ended with %d",
				forms[form].name, ways[way].name, res);
		else
			taken += res;
	}
	for (i = 0; i < n; i++) {
		if (!nt_results_next(&j->results, &tag, &status) || tag >= n ||
		    seen[tag]++)
			nt_fail("%s, %s: %u of %u commands have ended",
				forms[form].name, ways[way].name, i, n);
		judge(j, forms[form].name, ways[way].name, cmds[tag].opcode,
		      cmds[tag].cdw10,
		      array_status(j, cmds[tag].opcode, status));
	}
}

/* Up to BATCH commands at once in one form. */
static void send_batch(struct job *j, enum nt_form form, enum way way,
		       const struct nvme_uring_cmd *cmds, unsigned int n)
{
	struct nt_dev *dev = forms[form].queue == ACCESS_ADMIN ? &j->ctrl :
								 &j->node;
	unsigned int i, name, first = rings[way].next;
	struct io_uring_sqe *sqe;
	int res;

	if (forms[form].array) {
		send_array(j, form, way, cmds, n);
		return;
	}
	for (i = 0; i < n; i++) {
		struct nvme_uring_cmd cmd = cmds[i];
		struct nvme_ng_uring_cmd *ng;

		set_data(j, forms[form].vec, forms[form].region, &cmd);
		sqe = nt_ring_put(&rings[way], dev->fd, forms[form].op,
				  forms[form].fixed ? 0 : NT_UNREGISTERED,
				  &cmd);
		if (ways[way].worker)
			sqe->flags |= IOSQE_ASYNC;
		if (!forms[form].region)
			continue;
		ng = (void *)sqe->cmd;
		ng->region = forms[form].vec ? 0 : j->region;
		ng->meta_region = cmd.metadata_len ? j->meta_region : 0;
	}
	nt_ring_submit(&rings[way]);
	while (n--) {
		if (!nt_ring_reap(&rings[way], 60000, &name, &res))
			nt_die("%s, %s: no completion within 60 s",
			       forms[form].name, ways[way].name);
		i = (name - first) % ARRAY_SIZE(rings[way].seen);
		/* some kernels poll for admin commands, some do not */
		if (forms[form].queue == ACCESS_ADMIN && res == -EOPNOTSUPP &&
		    ways[way].setup & IORING_SETUP_IOPOLL)
			continue;
		judge(j, forms[form].name, ways[way].name, cmds[i].opcode,
		      cmds[i].cdw10, res < 0 ? res : res & NVME_SC_MASK);
	}
}

/*
 * All commands in each form, and each in every way where @all says so, else in
 * one of the ways, which takes turns.
 */
static void send_everywhere(struct job *j, const struct nvme_uring_cmd *cmds,
			    unsigned int n,
			    bool (*all)(struct job *j, __u8 opcode))
{
	static struct nvme_uring_cmd some[BATCH];
	unsigned int form, way, i, k;

	for (form = 0; form < FORMS; form++) {
		if (forms[form].queue != j->queue)
			continue;
		for (way = 0; way < WAYS; way++) {
			for (i = 0, k = 0; i < n; i++)
				if (((i + form) % WAYS == way ||
				     (all && all(j, cmds[i].opcode))) &&
				    has_turn(j, &cmds[i]))
					some[k++] = cmds[i];
			send_batch(j, form, way, some, k);
		}
		j->form++;
	}
}

/* By each ioctl, of the namespace's node or the controller's. */
static void send_ioctls(struct job *j, struct nt_dev *dev,
			const struct nvme_uring_cmd *cmds, unsigned int n)
{
	size_t i, k;

	for (i = 0; i < ARRAY_SIZE(ioctls); i++) {
		if (ioctls[i].queue != j->queue)
			continue;
		for (k = 0; k < n; k++) {
			struct nvme_uring_cmd cmd = cmds[k];

			if (!has_turn(j, &cmd))
				continue;
			set_data(j, ioctls[i].vec, false, &cmd);
			judge(j, ioctls[i].name, dev == &j->ctrl ?
			      "of the controller" : "of the namespace",
			      cmd.opcode, cmd.cdw10,
			      nt_dev_ioctl(dev->fd, ioctls[i].op, &cmd, NULL));
		}
		j->form++;
	}
}

/*
 * Fields that the controller refuses in whatever it would carry out, after the
 * kernel has let the command pass: a block that does not exist, a key of 255
 * bytes. The lengths that they imply fit the buffer.
 */
static void io_command(struct job *j, __u8 opcode, struct nvme_uring_cmd *cmd)
{
	*cmd = (struct nvme_uring_cmd) {
		.opcode = opcode,
		.nsid = j->ns->nsid,
		.cdw10 = 0x3ff,
		.cdw11 = 0xffffffff,
	};

	if (j->ns->ms && !j->ns->extended)
		cmd->metadata_len = j->ns->ms;
}

static int submit_io(struct job *j, unsigned long op, __u8 opcode)
{
	struct nvme_user_io io = {
		.opcode = opcode,
		.slba = 0xffffffff000003ffULL,
		.addr = (uintptr_t)j->data,
	};
	int ret;

	if (j->ns->ms && !j->ns->extended)
		io.metadata = (uintptr_t)j->meta;
	ret = ioctl(j->node.fd, op, &io);
	return ret < 0 ? -errno : ret;
}

static void submit_io_opcode(struct job *j, const char *name, unsigned long op,
			     __u8 opcode)
{
	/* only namespaces with blocks have a block size */
	bool known = j->ns->lba_size >= 512 &&
		(opcode == NVME_CMD_READ || opcode == NVME_CMD_WRITE ||
		 opcode == NVME_CMD_COMPARE);
	int ret = submit_io(j, op, opcode);

	if (known)
		judge(j, name, "of the namespace", opcode, 0xff, ret);
	else if (ret != -EINVAL && j->wrong++ < MAX_SHOWN)
		nt_note("%s opcode %02xh: %d, expected errno 22 (EINVAL)", name,
			opcode, ret);
}

/*
 * What may be refused, on a namespace of each command set with and without
 * SGLs: the rest, which reaches the controller or is one rule, takes turns.
 */
static bool is_refused_by_way(struct job *j, __u8 opcode)
{
	return !j->sender->cap && opcode < 0x80 && j->thorough;
}

static void io_opcodes(struct job *j)
{
	static struct nvme_uring_cmd cmds[256];
	unsigned int i;

	for (i = 0; i < 256; i++) {
		io_command(j, i, &cmds[i]);
		submit_io_opcode(j, "IOCTL_SUBMIT_IO", NVME_IOCTL_SUBMIT_IO, i);
		submit_io_opcode(j, "32-bit IOCTL_SUBMIT_IO", SUBMIT_IO32, i);
	}
	j->form = 0;
	j->forms = IO_FORMS;
	send_everywhere(j, cmds, 256, is_refused_by_way);
	send_ioctls(j, &j->node, cmds, 256);
	/* or some would have been sent in no form */
	nt_eq(j->form, j->forms);
}

/* Through the node of the namespace, and once through the controller's. */
static void admin_commands(struct job *j, const struct nvme_uring_cmd *cmds,
			   unsigned int n)
{
	j->form = 0;
	j->forms = j->first ? ADMIN_FORMS : ADMIN_IOCTLS;
	send_ioctls(j, &j->node, cmds, n);
	if (!j->first)
		return;
	send_everywhere(j, cmds, n, NULL);
	send_ioctls(j, &j->ctrl, cmds, n);
	nt_eq(j->form, j->forms);
}

/*
 * What must not be sent by who may send it. An Asynchronous Event Request
 * completes when something happens. Doorbell Buffer Config has no field but
 * the addresses, which the controller would take and use from then on.
 */
static bool must_not_be_sent(struct job *j, __u8 opcode)
{
	return (opcode == ADMIN_AER || opcode == ADMIN_DBBUF) &&
		may_send(j, opcode, 0xff);
}

/* I/O commands by the controller's node, an old form: root's alone. */
static void controller_io(struct job *j)
{
	struct nvme_uring_cmd cmd;
	unsigned int i;
	int ret;

	for (i = 0; i < 256 && !j->sender->cap; i++) {
		io_command(j, i, &cmd);
		set_data(j, false, false, &cmd);
		ret = nt_dev_ioctl(j->ctrl.fd, NVME_IOCTL_IO_CMD, &cmd, NULL);
		if (ret != -EACCES && j->wrong++ < MAX_SHOWN)
			nt_note("controller's IOCTL_IO_CMD, opcode %02xh: %d",
				i, ret);
	}
}

static void admin_opcodes(struct job *j)
{
	static struct nvme_uring_cmd cmds[256];
	unsigned int i, n = 0;

	for (i = 0; i < 256; i++) {
		if (must_not_be_sent(j, i))
			continue;
		/* no queue, namespace, feature or action has these numbers */
		cmds[n++] = (struct nvme_uring_cmd) {
			.opcode = i,
			.nsid = NO_SUCH_NSID,
			.cdw10 = 0xffffffff,
			.cdw11 = 0xffffffff,
			.cdw12 = 0xffffffff,
			.cdw13 = 0xffffffff,
			.cdw14 = 0xffffffff,
			.cdw15 = 0xffffffff,
		};
	}
	admin_commands(j, cmds, n);
}

static void sweep(struct job *j, size_t s)
{
	static struct nvme_uring_cmd cmds[256];
	unsigned int i, n = 0;

	for (i = 0; i < 256; i++) {
		if (sweeps[s].only_refused && may_send(j, sweeps[s].opcode, i))
			continue;
		cmds[n++] = (struct nvme_uring_cmd) {
			.opcode = sweeps[s].opcode,
			.nsid = sweeps[s].only_refused ? NO_SUCH_NSID :
							 j->ns->nsid,
			.cdw10 = sweeps[s].cdw10 | i,
			.cdw11 = sweeps[s].csi ? (__u32)j->ns->csi << 24 : 0,
		};
	}
	admin_commands(j, cmds, n);
}

/* A rule for some values of CDW10 7:0 needs a sweep over them. */
static void check_sweeps(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(access_rules); i++) {
		const struct access_rule *r = &access_rules[i];

		if (!r->dw10.first && r->dw10.last == 0xff)
			continue;
		if (r->queue != ACCESS_ADMIN ||
		    r->opcode.first != r->opcode.last ||
		    !find_sweep(r->opcode.first))
			nt_die("rule %zu: CDW10 7:0 of opcode %02xh is not swept",
			       i, r->opcode.first);
	}
}

static void drop_cap_sys_admin(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		nt_fail("capget: errno %d", errno);
	data[0].effective &= ~(1U << CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &header, data))
		nt_fail("capset: errno %d", errno);
}

/* The admin commands of other namespaces go by ioctl only. */
static bool needs_rings(const struct job *j)
{
	return j->first || j->queue == ACCESS_IO;
}

static void open_rings(struct job *j)
{
	size_t i;
	int ret;

	for (i = 0; i < WAYS && needs_rings(j); i++) {
		nt_ring_open(&rings[i], BATCH, ways[i].setup);
		ret = io_uring_register_buffers(&rings[i].ring, &j->vec, 1);
		if (ret)
			nt_fail("cannot register a buffer: %s", strerror(-ret));
	}
}

static void close_rings(const struct job *j)
{
	size_t i;

	for (i = 0; i < WAYS && needs_rings(j); i++)
		nt_ring_close(&rings[i]);
}

static void prepare(struct job *j)
{
	/* not of a huge page, all of which io_uring would charge */
	j->data = mmap(NULL, BLOCK + NT_PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (j->data == MAP_FAILED)
		nt_fail("mmap: %m");
	/* source ranges of Copy, for one, that do not exist */
	memset(j->data, NT_POISON, BLOCK + NT_PAGE);
	j->meta = j->data + BLOCK;
	j->vec.iov_base = j->data;
	j->vec.iov_len = NT_PAGE;
	if (!j->sender->uid && !j->sender->cap)
		drop_cap_sys_admin();
	nt_status(nt_map(j->node.fd, 0, j->data, NT_PAGE, &j->region), 0);
	nt_status(nt_map(j->node.fd, 0, j->meta, NT_PAGE, &j->meta_region), 0);
	nt_results_make(j->node.fd, 2 * BATCH, &j->results);
	j->segment.region = j->region;
	j->segment.len = NT_PAGE;
	open_rings(j);
}

static void send_all(void *arg)
{
	struct job *j = arg;
	size_t i;

	prepare(j);
	if (j->queue == ACCESS_IO) {
		io_opcodes(j);
	} else {
		admin_opcodes(j);
		if (j->first)
			controller_io(j);
		for (i = 0; i < ARRAY_SIZE(sweeps) && j->first; i++)
			sweep(j, i);
	}
	close_rings(j);
	if (j->wrong)
		nt_fail("%u of %u commands were not judged as documented",
			j->wrong, j->sent);
}

static bool is_known_form(__u32 op)
{
	size_t i;

	for (i = 0; i < FORMS; i++)
		if (forms[i].op == op)
			return true;
	return false;
}

static bool is_known_ioctl(unsigned long op)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ioctls); i++)
		if (ioctls[i].op == op)
			return true;
	for (i = 0; i < ARRAY_SIZE(other_ioctls); i++)
		if (other_ioctls[i] == op)
			return true;
	return false;
}

/* Operations of one direction, size and any number, through a ring. */
static void unknown_forms(struct job *j, __u32 op)
{
	struct nvme_uring_cmd cmd = { .nsid = j->ns->nsid };
	unsigned int i, n = 0, name;
	unsigned char nr[256];
	int res, first = rings[0].next;

	for (i = 0; i < 256; i++) {
		if (is_known_form(op | i))
			continue;
		nr[n++] = i;
		nt_ring_put(&rings[0], i & 1 ? j->ctrl.fd : j->node.fd, op | i,
			    NT_UNREGISTERED, &cmd);
	}
	nt_ring_submit(&rings[0]);
	while (rings[0].flying) {
		if (!nt_ring_reap(&rings[0], 60000, &name, &res))
			nt_die("no completion within 60 s");
		name = (name - first) % ARRAY_SIZE(rings[0].seen);
		if (res != -ENOTTY && res != -EOPNOTSUPP &&
		    j->wrong++ < MAX_SHOWN)
			nt_note("operation %x: %d, it is a form unknown here",
				op | nr[name], res);
	}
}

static void unknown_ioctls(struct job *j, unsigned long op)
{
	unsigned int i, ctrl;

	for (i = 0; i < 256; i++)
		for (ctrl = 0; ctrl < 2; ctrl++) {
			if (is_known_ioctl(op | i) ||
			    (ioctl(ctrl ? j->ctrl.fd : j->node.fd, op | i,
				   NULL) < 0 && errno == ENOTTY))
				continue;
			if (j->wrong++ < MAX_SHOWN)
				nt_note("ioctl %lx: errno %d, it is unknown here",
					op | i, errno);
		}
}

/* There is no form but those of the tables above. */
static void every_form(void *arg)
{
	static const unsigned int sizes[] = {
		0, 4, sizeof(struct nvme_user_io), sizeof(struct nvme_ng_map),
		sizeof(struct nvme_ng_limits), sizeof(struct nvme_uring_cmd),
		sizeof(struct nvme_ng_uring_cmd),
		sizeof(struct nvme_ng_segment),
	};
	struct job *j = arg;
	unsigned int dir;
	size_t i;

	prepare(j);
	for (dir = 0; dir < 4; dir++)
		for (i = 0; i < ARRAY_SIZE(sizes); i++) {
			unknown_forms(j, _IOC(dir, 'N', 0, sizes[i]));
			unknown_ioctls(j, _IOC(dir, 'N', 0, sizes[i]));
		}
	close_rings(j);
	if (j->wrong)
		nt_fail("%u operations are not known", j->wrong);
}

/* A namespace that does not describe itself, as documented under CSUPP. */
static bool is_opaque(struct nt_ns *ns)
{
	unsigned char id[NT_PAGE];

	if (ns->csi == NVME_CSI_NVM ||
	    !nt_identify(ns->ctrl.fd, NVME_ID_CNS_NS_CS_INDEP, 0, ns->nsid, id))
		return false;
	/* a namespace without a capacity is one that CNS 00h does not cover */
	return nt_identify(ns->ctrl.fd, NVME_ID_CNS_NS, 0, ns->nsid, id) ||
		!nt_le64(id + 8);
}

static void open_as(struct nt_dev *to, const struct nt_dev *dev,
		    const struct sender *sender)
{
	*to = *dev;
	to->has_ring = false;
	to->fd = nt_open_as(dev, sender->uid, sender->flags);
	if (to->fd < 0)
		nt_fail("%s: cannot be opened as uid %u: errno %d", dev->path,
			sender->uid, -to->fd);
}

static void run_every_form(void *arg)
{
	struct job *j = arg;

	open_as(&j->node, &j->ns->dev, j->sender);
	open_as(&j->ctrl, &j->ns->ctrl, j->sender);
	nt_as(j->sender->uid, every_form, j);
	close(j->node.fd);
	close(j->ctrl.fd);
}

static void run_job(void *arg)
{
	unsigned char id[NT_PAGE];
	struct job *j = arg;
	int ret;

	nt_status(nt_identify(j->ns->ctrl.fd, NVME_ID_CNS_CTRL, 0, 0, id),
		  NVME_SC_SUCCESS);
	j->prp_only = !(id[536] & 3);
	ret = nt_effects(j->ns->ctrl.fd, j->ns->csi, j->effects);
	if (ret == NVME_SC_INVALID_FIELD || is_opaque(j->ns))
		memset(j->effects, 0, sizeof(j->effects));
	else
		nt_status(ret, NVME_SC_SUCCESS);

	open_as(&j->node, &j->ns->dev, j->sender);
	open_as(&j->ctrl, &j->ns->ctrl, j->sender);
	nt_as(j->sender->uid, send_all, j);
	close(j->node.fd);
	close(j->ctrl.fd);
}

/* With a command set that no one before it has, with or without SGLs? */
static bool is_new_kind(const struct nt_ns *ns, size_t i)
{
	size_t k = 0;

	if (strcmp(ns[i].dev.serial, "NVMENG-A") &&
	    strcmp(ns[i].dev.serial, "NVMENG-B") && ns[i].testbed)
		return false;
	while (ns[k].csi != ns[i].csi ||
	       strcmp(ns[k].ctrl.path, ns[i].ctrl.path))
		k++;
	return k == i;
}

/* Is this the first namespace of its controller? */
static bool is_first(const struct nt_ns *ns, size_t i)
{
	size_t k = 0;

	while (strcmp(ns[k].ctrl.path, ns[i].ctrl.path))
		k++;
	return k == i;
}

static const char *const queues[] = { "io", "admin" };
static const char *only = "";

static bool option(const char *arg)
{
	if (strncmp(arg, "--only=", 7))
		return false;
	only = arg + 7;
	return true;
}

static bool case_of(char *name, size_t size, const struct nt_ns *ns,
		    const char *sender, const char *what)
{
	snprintf(name, size, "%s %s%s%s", ns->name, sender, *sender ? " " : "",
		 what);
	return strstr(name, only);
}

/* Run the cases of a namespace, or only count them. */
static unsigned int go(struct nt_ns *ns, size_t i, bool run)
{
	bool first = is_first(ns, i);
	struct job every = { .ns = &ns[i], .sender = &senders[1] };
	unsigned int count = 0;
	char name[128];
	size_t k;

	if (first && case_of(name, sizeof(name), &ns[i], "", "every form")) {
		count++;
		if (run)
			nt_test(run_every_form, &every, "%s", name);
	}
	for (k = 0; k < ARRAY_SIZE(senders) * ARRAY_SIZE(queues); k++) {
		struct job j = {
			.ns = &ns[i],
			.sender = &senders[k / 2],
			.queue = k % 2 ? ACCESS_ADMIN : ACCESS_IO,
			.first = first,
			.thorough = is_new_kind(ns, i),
			.turn = i,
		};

		if (!case_of(name, sizeof(name), &ns[i], j.sender->name,
			     queues[j.queue]))
			continue;
		count++;
		if (run)
			nt_test(run_job, &j, "%s", name);
	}
	return count;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test who may send which command.",
		.wants = "usable",
		.serial = "NVMENG-",
		.usage = "  --only=TEXT  only cases with TEXT in the name",
		.option = option,
	};
	unsigned int count = 0;
	struct nt_ns *ns;
	size_t i, n;

	nt_init(argc, argv, &prog);
	check_sweeps();
	ns = nt_namespaces(&n);
	for (i = 0; i < n; i++)
		count += go(ns, i, false);
	nt_plan(count);
	for (i = 0; i < n; i++) {
		nt_note("%s is %s", ns[i].name, ns[i].dev.path);
		go(ns, i, true);
	}
	return nt_end();
}
