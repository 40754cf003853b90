// SPDX-License-Identifier: GPL-2.0
/*
 * Who may send what: every opcode of both queues, every CNS and every Feature
 * Identifier, by each kind of sender, against the tables that gen_access.py makes
 * of Documentation/access.rst.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "nvme_test.h"

enum access_queue { ACCESS_IO, ACCESS_ADMIN };
enum access_needs { ACCESS_READ, ACCESS_WRITE, ACCESS_CAP, ACCESS_NOBODY };
enum access_condition {
	ACCESS_ALWAYS,
	ACCESS_NO_CSUPP,
	ACCESS_OTHER_EFFECT,
	ACCESS_NO_LENGTH,
	ACCESS_LBCC,
	ACCESS_TO_CONTROLLER,
};

struct access_span {
	__u8 first;
	__u8 last;
};

struct access_rule {
	struct access_span csi;
	struct access_span opcode;
	struct access_span dw10;
	enum access_queue queue;
	enum access_condition condition;
	enum access_needs needs;
};

struct access_length {
	struct access_span csi;
	struct access_span opcode;
};

#include "access_table.h"

/* Commands Supported and Effects log, a dword per opcode */
#define EFFECT_CSUPP	0x00000001U
#define EFFECT_LBCC	0x00000002U
/* CSE, UUID Selection Supported, scope */
#define EFFECT_NONE	0xffff0000U

#define NO_SUCH_NSID	0xfffffffeU
#define MAX_SHOWN	8

/* Asynchronous Event Request and Doorbell Buffer Config */
enum { ADMIN_AER = 0x0c, ADMIN_DBBUF = 0x7c };

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

struct job {
	struct nt_ns *ns;
	const struct sender *sender;
	enum access_queue queue;
	bool first;		/* the controller's own node is asked once */
	__u32 effects[256];	/* of the I/O commands */
	bool prp_only;
	struct nt_dev node;
	struct nt_dev ctrl;
	struct iovec vec;
	void *data;
	void *meta;
	unsigned int sent;
	unsigned int wrong;
};

static bool within(__u8 value, const struct access_span *span)
{
	return value >= span->first && value <= span->last;
}

static bool length_known(const struct job *j, __u8 opcode)
{
	size_t i;

	if (!j->prp_only || !(opcode & 3))
		return true;
	for (i = 0; i < ARRAY_SIZE(access_lengths); i++)
		if (within(j->ns->csi, &access_lengths[i].csi) &&
		    within(opcode, &access_lengths[i].opcode))
			return true;
	return false;
}

static bool holds(const struct job *j, enum access_condition condition,
		  __u8 opcode)
{
	__u32 effects = j->effects[opcode];

	switch (condition) {
	case ACCESS_ALWAYS:
		return true;
	case ACCESS_NO_CSUPP:
		return !(effects & EFFECT_CSUPP);
	case ACCESS_OTHER_EFFECT:
		return effects & ~(EFFECT_CSUPP | EFFECT_LBCC | EFFECT_NONE);
	case ACCESS_NO_LENGTH:
		return !length_known(j, opcode);
	case ACCESS_LBCC:
		return effects & EFFECT_LBCC;
	case ACCESS_TO_CONTROLLER:
		return opcode & 1;
	}
	nt_die("condition %d is not known", condition);
}

/* The rule that decides. */
static const struct access_rule *find_rule(const struct job *j, __u8 opcode,
					   __u8 dw10)
{
	const struct access_rule *r;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(access_rules); i++) {
		r = &access_rules[i];
		if (r->queue == j->queue && within(j->ns->csi, &r->csi) &&
		    within(opcode, &r->opcode) && within(dw10, &r->dw10) &&
		    holds(j, r->condition, opcode))
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
static void judge(struct job *j, const char *way, __u8 opcode, __u8 dw10,
		  int got)
{
	const struct access_rule *r = find_rule(j, opcode, dw10);
	bool may = may_send(j, opcode, dw10);

	j->sent++;
	if (may ? got >= 0 : got == -EACCES)
		return;
	if (j->wrong++ >= MAX_SHOWN)
		return;
	nt_note("%s opcode %02xh, CDW10 7:0 %02xh: %s %d, expected %s",
		way, opcode, dw10, got < 0 ? "errno" : "status",
		got < 0 ? -got : got, may ? "a status" : "errno 13 (EACCES)");
	nt_note("  the rule is number %td of the generated table; effects %#x",
		r - access_rules, j->effects[opcode]);
}

/*
 * Fields that the controller refuses in whatever it would carry out, after the
 * kernel has let the command pass: a block that does not exist, a key of 255
 * bytes. The lengths that they imply fit the buffer.
 */
static void io_command(struct job *j, __u8 opcode, bool vec,
		       struct nvme_uring_cmd *cmd)
{
	*cmd = (struct nvme_uring_cmd) {
		.opcode = opcode,
		.nsid = j->ns->nsid,
		.addr = (uintptr_t)(vec ? (void *)&j->vec : j->data),
		.data_len = vec ? 1 : NT_PAGE,
		.cdw10 = 0x3ff,
		.cdw11 = 0xffffffff,
	};

	if (j->ns->ms && !j->ns->extended) {
		cmd->metadata = (uintptr_t)j->meta;
		cmd->metadata_len = j->ns->ms;
	}
}

static int submit_io(struct job *j, __u8 opcode)
{
	struct nvme_user_io io = {
		.opcode = opcode,
		.slba = 0xffffffff000003ffULL,
		.addr = (uintptr_t)j->data,
	};
	int ret;

	if (j->ns->ms && !j->ns->extended)
		io.metadata = (uintptr_t)j->meta;
	ret = ioctl(j->node.fd, NVME_IOCTL_SUBMIT_IO, &io);
	return ret < 0 ? -errno : ret;
}

static void io_opcode(struct job *j, __u8 opcode)
{
	/* only namespaces with blocks have a block size */
	bool known = j->ns->lba_size >= 512 &&
		(opcode == NVME_CMD_READ || opcode == NVME_CMD_WRITE ||
		 opcode == NVME_CMD_COMPARE);
	struct nvme_uring_cmd cmd;
	__u8 dw10;
	int ret;

	io_command(j, opcode, false, &cmd);
	dw10 = cmd.cdw10;
	judge(j, "URING_CMD_IO", opcode, dw10,
	      nt_dev_uring(&j->node, NVME_URING_CMD_IO, 0, &cmd, NULL));
	judge(j, "IOCTL_IO_CMD", opcode, dw10,
	      nt_dev_ioctl(j->node.fd, NVME_IOCTL_IO_CMD, &cmd, NULL));
	judge(j, "IOCTL_IO64_CMD", opcode, dw10,
	      nt_dev_ioctl(j->node.fd, NVME_IOCTL_IO64_CMD, &cmd, NULL));

	io_command(j, opcode, true, &cmd);
	judge(j, "URING_CMD_IO_VEC", opcode, dw10,
	      nt_dev_uring(&j->node, NVME_URING_CMD_IO_VEC, 0, &cmd, NULL));
	judge(j, "IOCTL_IO64_CMD_VEC", opcode, dw10,
	      nt_dev_ioctl(j->node.fd, NVME_IOCTL_IO64_CMD_VEC, &cmd, NULL));

	ret = submit_io(j, opcode);
	if (known)
		judge(j, "IOCTL_SUBMIT_IO", opcode, dw10, ret);
	else if (ret != -EINVAL && j->wrong++ < MAX_SHOWN)
		nt_note("IOCTL_SUBMIT_IO opcode %02xh: %d, expected errno 22 (EINVAL)",
			opcode, ret);
}

/* Through the node of the namespace, and with @ctrl that of the controller. */
static void admin_command(struct job *j, struct nvme_uring_cmd *cmd, bool ctrl)
{
	const struct {
		const char *name;
		struct nt_dev *dev;
		unsigned long op;
		bool vec;
	} uring[] = {
		{ "URING_CMD_ADMIN", &j->ctrl, NVME_URING_CMD_ADMIN, false },
		{ "URING_CMD_ADMIN_VEC", &j->ctrl, NVME_URING_CMD_ADMIN_VEC,
		  true },
	}, ioctls[] = {
		{ "controller's IOCTL_ADMIN_CMD", &j->ctrl,
		  NVME_IOCTL_ADMIN_CMD, false },
		{ "controller's IOCTL_ADMIN64_CMD", &j->ctrl,
		  NVME_IOCTL_ADMIN64_CMD, false },
		{ "IOCTL_ADMIN_CMD", &j->node, NVME_IOCTL_ADMIN_CMD, false },
		{ "IOCTL_ADMIN64_CMD", &j->node, NVME_IOCTL_ADMIN64_CMD,
		  false },
	};
	__u8 opcode = cmd->opcode, dw10 = cmd->cdw10;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(uring); i++) {
		if (uring[i].dev == &j->ctrl && !ctrl)
			continue;
		cmd->addr = (uintptr_t)(uring[i].vec ? (void *)&j->vec :
					j->data);
		cmd->data_len = uring[i].vec ? 1 : NT_PAGE;
		judge(j, uring[i].name, opcode, dw10,
		      nt_dev_uring(uring[i].dev, uring[i].op, 0, cmd, NULL));
	}
	cmd->addr = (uintptr_t)j->data;
	cmd->data_len = NT_PAGE;
	for (i = 0; i < ARRAY_SIZE(ioctls); i++) {
		if (ioctls[i].dev == &j->ctrl && !ctrl)
			continue;
		judge(j, ioctls[i].name, opcode, dw10,
		      nt_dev_ioctl(ioctls[i].dev->fd, ioctls[i].op, cmd,
				   NULL));
	}
}

/*
 * What must not be sent by who may send it. An Asynchronous Event Request
 * completes when something happens. Doorbell Buffer Config has no field but
 * the addresses, which the controller would take and use from then on.
 */
static bool must_not_be_sent(struct job *j, __u8 opcode)
{
	return j->sender->cap && (opcode == ADMIN_AER || opcode == ADMIN_DBBUF);
}

static void admin_opcode(struct job *j, __u8 opcode)
{
	/* no queue, namespace, feature or action has these numbers */
	struct nvme_uring_cmd cmd = {
		.opcode = opcode,
		.nsid = NO_SUCH_NSID,
		.cdw10 = 0xffffffff,
		.cdw11 = 0xffffffff,
		.cdw12 = 0xffffffff,
		.cdw13 = 0xffffffff,
		.cdw14 = 0xffffffff,
		.cdw15 = 0xffffffff,
	};

	if (!must_not_be_sent(j, opcode))
		admin_command(j, &cmd, j->first);
}

static void identify_cns(struct job *j, __u8 cns)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.nsid = j->ns->nsid,
		.cdw10 = cns,
		.cdw11 = (__u32)j->ns->csi << 24,
	};

	admin_command(j, &cmd, true);
}

/* A feature is not set even where that is allowed: it would stay so. */
static void set_feature(struct job *j, __u8 fid)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.nsid = NO_SUCH_NSID,
		.cdw10 = fid,
	};

	if (!may_send(j, NVME_ADMIN_SET_FEATURES, fid))
		admin_command(j, &cmd, j->first);
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

static void send_all(void *arg)
{
	struct job *j = arg;
	unsigned int i;

	j->data = nt_alloc(NT_PAGE, 0);
	j->meta = nt_alloc(NT_PAGE, 0);
	j->vec.iov_base = j->data;
	j->vec.iov_len = NT_PAGE;
	if (!j->sender->uid && !j->sender->cap)
		drop_cap_sys_admin();

	for (i = 0; i < 256; i++) {
		if (j->queue == ACCESS_IO) {
			io_opcode(j, i);
			continue;
		}
		admin_opcode(j, i);
		identify_cns(j, i);
		set_feature(j, i);
	}
	if (j->wrong)
		nt_fail("%u of %u commands were not judged as documented",
			j->wrong, j->sent);
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

/* Is this the first namespace of its controller? */
static bool is_first(const struct nt_ns *ns, size_t i)
{
	size_t k = 0;

	while (strcmp(ns[k].ctrl.path, ns[i].ctrl.path))
		k++;
	return k == i;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test who may send which command.",
		.wants = "usable",
		.serial = "NVMENG-",
	};
	static const char *const queues[] = { "io", "admin" };
	struct nt_ns *ns;
	size_t i, k, n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_plan(n * ARRAY_SIZE(senders) * ARRAY_SIZE(queues));
	for (i = 0; i < n; i++) {
		nt_note("%s is %s", ns[i].name, ns[i].dev.path);
		for (k = 0; k < ARRAY_SIZE(senders) * ARRAY_SIZE(queues); k++) {
			struct job j = {
				.ns = &ns[i],
				.sender = &senders[k / 2],
				.queue = k % 2 ? ACCESS_ADMIN : ACCESS_IO,
				.first = is_first(ns, i),
			};

			nt_test(run_job, &j, "%s %s %s", ns[i].name,
				j.sender->name, queues[j.queue]);
		}
	}
	return nt_end();
}
