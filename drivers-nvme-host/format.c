// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: the block format of a namespace, by which commands are judged.
 *
 * A controller that takes Physical Region Pages, or separate metadata, is not
 * told how much memory there is.  How much a command moves follows from its
 * number of blocks and the format of the namespace.  So the format must be the
 * one that the controller has when it fetches the command.
 *
 * The format of a namespace is one word.  A scan writes it, from Identify data
 * that was read since the last command that can change a format.  Such a
 * command finds no other one in flight in the whole NVM subsystem, and leaves
 * the word of each namespace empty before it lets others in again.  Where there
 * are no blocks the word tells no more than that the namespace is still the one
 * that was identified.
 */
#include <linux/blk-mq.h>
#include <linux/device.h>
#include <linux/log2.h>
#include <linux/wait.h>
#include "ng.h"

/* most that is kept for commands without a metadata buffer, bytes */
#define NVME_NG_SCRATCH_MAX	SZ_4M

/* Key Value Command Set specification, Identify Namespace data structure */
#define NVME_NG_KV_FORMAT	29
#define NVME_NG_KV_FORMATS	72
#define NVME_NG_KV_FORMAT_SIZE	16

/* how long a command waits for a format to be read again */
#define NVME_NG_FORMAT_WAIT	HZ

/* held to write formats, and to count how often they were forgotten */
static DEFINE_SPINLOCK(nvme_ng_format_lock);
static u32 nvme_ng_forgotten;
static DECLARE_WAIT_QUEUE_HEAD(nvme_ng_format_wait);

static struct nvme_ng_ns *nvme_ng_ns(struct nvme_ns *ns)
{
	return container_of(ns, struct nvme_ng_ns, ns);
}

/**
 * nvme_ng_alloc_ns - allocate a namespace with what this driver keeps of it
 * @node: NUMA node
 *
 * Return: the namespace, all zero, to be freed with kfree(), or NULL.
 */
struct nvme_ns *nvme_ng_alloc_ns(int node)
{
	struct nvme_ng_ns *p;

	/* the namespace is the first member: kfree() takes its address */
	BUILD_BUG_ON(offsetof(struct nvme_ng_ns, ns));
	p = kzalloc_node(sizeof(*p), GFP_KERNEL, node);
	return p ? &p->ns : NULL;
}

/* Limits of keys and values, 0 where the controller does not tell. */
static void nvme_ng_read_kv(struct nvme_ns *ns)
{
	struct nvme_command c = {
		.identify.opcode	= nvme_admin_identify,
		.identify.nsid		= cpu_to_le32(ns->head->ns_id),
		.identify.cns		= NVME_ID_CNS_CS_NS,
		.identify.csi		= NVME_NG_CSI_KV,
	};
	struct nvme_ng_ns *p = nvme_ng_ns(ns);
	u8 *id, *fmt;

	id = kzalloc(NVME_IDENTIFY_DATA_SIZE, GFP_KERNEL);
	if (!id)
		return;
	if (!nvme_submit_sync_cmd(ns->ctrl->admin_q, &c, id,
				  NVME_IDENTIFY_DATA_SIZE)) {
		fmt = id + NVME_NG_KV_FORMATS +
			(id[NVME_NG_KV_FORMAT] & 0xf) * NVME_NG_KV_FORMAT_SIZE;
		WRITE_ONCE(p->max_key_len, le16_to_cpup((__le16 *)fmt));
		WRITE_ONCE(p->max_value_len, le32_to_cpup((__le32 *)(fmt + 4)));
	}
	kfree(id);
}

/**
 * nvme_ng_formats_forgotten - how often formats have been forgotten so far
 *
 * To be asked before a namespace is identified.
 */
unsigned int nvme_ng_formats_forgotten(void)
{
	return READ_ONCE(nvme_ng_forgotten);
}

/* Publish a format, unless it may have changed since @forgotten. */
static void nvme_ng_set_format(struct nvme_ns *ns, u32 word, u32 forgotten)
{
	struct nvme_ns_head *head = ns->head;
	unsigned int changing = 0;
	struct nvme_ns *path;
	bool late;
	int srcu;

	srcu = srcu_read_lock(&head->srcu);
	spin_lock(&nvme_ng_format_lock);
	late = forgotten != nvme_ng_forgotten;
	/* a path may be younger than commands that change all of them */
	list_for_each_entry_srcu(path, &head->list, siblings,
				 srcu_read_lock_held(&head->srcu))
		changing = max(changing, nvme_ng_ns(path)->changing);
	list_for_each_entry_srcu(path, &head->list, siblings,
				 srcu_read_lock_held(&head->srcu)) {
		struct nvme_ng_ns *p = nvme_ng_ns(path);

		p->changing = changing;
		/* nvme_ng_effects_end() asks for another scan */
		if (!late && !changing && !p->gone)
			WRITE_ONCE(p->format, word);
	}
	spin_unlock(&nvme_ng_format_lock);
	srcu_read_unlock(&head->srcu, srcu);
	if (late)
		nvme_queue_scan(ns->ctrl);
	else
		wake_up_all(&nvme_ng_format_wait);
}

/**
 * nvme_ng_format_begin - a scan has found a namespace to be the one it was
 * @ns: the namespace
 * @forgotten: nvme_ng_formats_forgotten() before that was identified
 *
 * Process context, sleeps; scans of a namespace do not overlap.
 */
void nvme_ng_format_begin(struct nvme_ns *ns, unsigned int forgotten)
{
	switch (ns->head->ids.csi) {
	case NVME_CSI_NVM:
	case NVME_CSI_ZNS:
		return;
	case NVME_NG_CSI_KV:
		nvme_ng_read_kv(ns);
		break;
	}
	/* the command says how much it moves, or nobody does */
	nvme_ng_set_format(ns, NVME_NG_FORMAT_KNOWN, forgotten);
}

static void nvme_ng_scratch_release(struct device *dev, void *res)
{
	struct nvme_ng_scratch *s = res;

	if (s->zeros)
		dma_free_coherent(dev, s->len, s->zeros, s->zeros_dma);
	if (s->sink)
		dma_free_coherent(dev, s->len, s->sink, s->sink_dma);
}

static int nvme_ng_scratch_match(struct device *dev, void *res, void *data)
{
	struct nvme_ng_scratch *s = res;

	return s->len >= *(u32 *)data;
}

static struct nvme_ng_scratch *nvme_ng_new_scratch(struct device *dev, u32 len)
{
	const gfp_t gfp = GFP_KERNEL | __GFP_NOWARN | __GFP_NORETRY;
	struct nvme_ng_scratch *s;

	s = devres_alloc(nvme_ng_scratch_release, sizeof(*s), GFP_KERNEL);
	if (!s)
		return NULL;
	s->len = len;
	s->zeros = dma_alloc_coherent(dev, len, &s->zeros_dma, gfp);
	s->sink = dma_alloc_coherent(dev, len, &s->sink_dma, gfp);
	if (s->zeros && s->sink) {
		devres_add(dev, s);
		return s;
	}
	nvme_ng_scratch_release(dev, s);
	devres_free(s);
	return NULL;
}

/*
 * Memory of @len bytes for metadata that no program wants, less if there is
 * not as much in one piece, or NULL.
 */
static struct nvme_ng_scratch *nvme_ng_get_scratch(struct device *dev, u32 len)
{
	static DEFINE_MUTEX(lock);	/* namespaces are scanned side by side */
	struct nvme_ng_scratch *s;

	len = roundup_pow_of_two(clamp_t(u32, len, PAGE_SIZE,
					 NVME_NG_SCRATCH_MAX));
	mutex_lock(&lock);
	do {
		s = devres_find(dev, nvme_ng_scratch_release,
				nvme_ng_scratch_match, &len);
		if (!s)
			s = nvme_ng_new_scratch(dev, len);
		len /= 2;
	} while (!s && len >= PAGE_SIZE);
	mutex_unlock(&lock);
	return s;
}

/*
 * Is the metadata of a block no more than its protection information?  Then the
 * controller inserts and strips it where PRACT says so.
 */
static bool nvme_ng_all_pi(const struct nvme_id_ns *id,
			   const struct nvme_id_ns_nvm *nvm, unsigned int lbaf)
{
	u16 ms = le16_to_cpu(id->lbaf[lbaf].ms);
	u32 elbaf = nvm ? le32_to_cpu(nvm->elbaf[lbaf]) : 0;

	if (!(id->dps & NVME_NS_DPS_PI_MASK))
		return false;
	switch (elbaf >> NVME_ID_NS_NVM_GUARD_SHIFT & NVME_ID_NS_NVM_GUARD_MASK) {
	case NVME_NVM_NS_16B_GUARD:
		return ms == 8;
	case NVME_NVM_NS_32B_GUARD:
	case NVME_NVM_NS_64B_GUARD:
		return ms == 16;
	default:	/* said elsewhere */
		return false;
	}
}

/* Metadata of the largest command in any format that keeps it apart, bytes */
static u32 nvme_ng_any_metadata(struct nvme_ns *ns, const struct nvme_id_ns *id)
{
	unsigned int i, nr = min_t(unsigned int, id->nlbaf + 1U,
				   ARRAY_SIZE(id->lbaf));
	u32 len = 0;

	/* Metadata Capabilities: in a buffer of its own */
	if (!(id->mc & 2))
		return 0;
	for (i = 0; i < nr; i++)
		len = max(len, nvme_ng_max_metadata(ns, NVME_NG_FORMAT_KNOWN |
			id->lbaf[i].ds << NVME_NG_FORMAT_SHIFT |
			(u32)le16_to_cpu(id->lbaf[i].ms) << NVME_NG_FORMAT_MS));
	return len;
}

/**
 * nvme_ng_format_read - a scan has identified a namespace with blocks
 * @ns: the namespace
 * @forgotten: as for nvme_ng_format_begin()
 * @id: Identify Namespace data structure, NVM Command Set
 * @nvm: I/O Command Set Specific Identify Namespace data structure, or NULL
 *
 * The format is the same through each controller that has the namespace.
 * Process context, sleeps.
 */
void nvme_ng_format_read(struct nvme_ns *ns, unsigned int forgotten,
			 const struct nvme_id_ns *id,
			 const struct nvme_id_ns_nvm *nvm)
{
	unsigned int lbaf = nvme_lbaf_index(id->flbas);
	u16 ms = le16_to_cpu(id->lbaf[lbaf].ms);
	const struct nvme_ng_scratch *s;
	u8 shift = id->lbaf[lbaf].ds;
	u32 word, len;

	/* Format Progress Indicator: a Format that nobody waits for goes on */
	if (id->fpi & 0x80 && id->fpi & 0x7f)
		return;
	word = NVME_NG_FORMAT_KNOWN | shift << NVME_NG_FORMAT_SHIFT |
		(u32)ms << NVME_NG_FORMAT_MS;
	if (id->flbas & NVME_NS_FLBAS_META_EXT)
		word |= NVME_NG_FORMAT_EXT;
	if (nvme_ng_all_pi(id, nvm, lbaf))
		word |= NVME_NG_FORMAT_PI;

	/* once for all formats, so that it does not grow with each */
	len = max(nvme_ng_max_metadata(ns, word), nvme_ng_any_metadata(ns, id));
	if (len && nvme_ng_is_direct(ns->ctrl)) {
		s = nvme_ng_get_scratch(ns->ctrl->dev, len);
		if (s)
			WRITE_ONCE(nvme_ng_ns(ns)->scratch, s);
	}
	nvme_ng_set_format(ns, word, forgotten);
}

/**
 * nvme_ng_format_gone - a namespace is about to leave its head
 * @ns: the namespace
 *
 * It is in no list from now on.  What was judged by its format has ended when
 * this returns, and nothing will be.  Process context, sleeps as long as
 * del_gendisk() would.
 */
void nvme_ng_format_gone(struct nvme_ns *ns)
{
	struct nvme_ng_ns *p = nvme_ng_ns(ns);

	spin_lock(&nvme_ng_format_lock);
	p->gone = true;
	WRITE_ONCE(p->format, 0);
	spin_unlock(&nvme_ng_format_lock);
	wake_up_all(&nvme_ng_format_wait);
	if (!nvme_ng_is_direct(ns->ctrl))
		return;
	nvme_ng_freeze_start(ns->queue);
	blk_mq_freeze_queue_wait(ns->queue);
	nvme_ng_unfreeze(ns->queue);
}

/**
 * nvme_ng_format_settle - wait for a format that is being read
 * @ns: the namespace
 * @nowait: the caller cannot wait
 *
 * The caller holds nothing that a scan waits for.
 *
 * Return: 0, also where the format is still not known a second after it was
 * forgotten, and where it never was known; -EAGAIN if the caller would have to
 * wait; -EINTR if it is being killed.
 */
int nvme_ng_format_settle(struct nvme_ns *ns, bool nowait)
{
	const struct nvme_ng_ns *p = nvme_ng_ns(ns);
	unsigned long until;
	long left;

	if (likely(nvme_ng_block_format(ns)) || READ_ONCE(p->gone))
		return 0;
	until = READ_ONCE(p->settle_by);
	left = until - jiffies;
	/* one that was never known, or not read again in time, maybe long ago */
	if (!until || left <= 0 || left > NVME_NG_FORMAT_WAIT + 1)
		return 0;
	if (nowait)
		return -EAGAIN;
	left = wait_event_killable_timeout(nvme_ng_format_wait,
					   nvme_ng_block_format(ns) ||
					   READ_ONCE(p->gone), left);
	return left < 0 ? -EINTR : 0;
}

/*
 * Can a command with these effects change what a length depends on?  NVM
 * Express Base specification, Commands Supported and Effects log page
 */
static bool nvme_ng_changes_format(u32 effects)
{
	return effects & (NVME_CMD_EFFECTS_NCC | NVME_CMD_EFFECTS_NIC |
			  NVME_CMD_EFFECTS_CCC);
}

/*
 * The formats of a namespace are forgotten, because a command that can change
 * them begins or ends; there may be several.  &nvme_ng_format_lock is held.
 */
static void nvme_ng_forget(struct nvme_ns *ns, bool begins)
{
	struct nvme_ng_ns *p = nvme_ng_ns(ns);

	/* 0 is for one that was never known */
	if (p->format || p->settle_by)
		WRITE_ONCE(p->settle_by, (jiffies + NVME_NG_FORMAT_WAIT) | 1);
	if (begins)
		p->changing++;
	else if (p->changing)
		p->changing--;
	WRITE_ONCE(p->format, 0);
}

/* &nvme_subsystem.lock is held. */
static void nvme_ng_forget_formats(struct nvme_subsystem *subsys, bool begins)
{
	struct nvme_ns_head *head;
	struct nvme_ns *ns;

	spin_lock(&nvme_ng_format_lock);
	nvme_ng_forgotten++;
	list_for_each_entry(head, &subsys->nsheads, entry)
		list_for_each_entry(ns, &head->list, siblings)
			nvme_ng_forget(ns, begins);
	spin_unlock(&nvme_ng_format_lock);
}

/* Of one namespace, whose command waits for no lock. */
static void nvme_ng_forget_head(struct nvme_ns_head *head, bool scan)
{
	int srcu = srcu_read_lock(&head->srcu);
	struct nvme_ns *ns;

	spin_lock(&nvme_ng_format_lock);
	nvme_ng_forgotten++;
	list_for_each_entry_srcu(ns, &head->list, siblings,
				 srcu_read_lock_held(&head->srcu)) {
		nvme_ng_forget(ns, !scan);
		if (scan)
			nvme_queue_scan(ns->ctrl);
	}
	spin_unlock(&nvme_ng_format_lock);
	srcu_read_unlock(&head->srcu, srcu);
}

/**
 * nvme_ng_admin_effects - effects that a controller may forget to tell
 * @opcode: of an admin command
 *
 * Return: more bits of the Commands Supported and Effects log page.
 */
unsigned int nvme_ng_admin_effects(unsigned char opcode)
{
	switch (opcode) {
	case nvme_admin_ns_mgmt:
	case nvme_admin_ns_attach:
		return NVME_CMD_EFFECTS_NCC | NVME_CMD_EFFECTS_NIC;
	default:
		return 0;
	}
}

/**
 * nvme_ng_effects_begin - part of nvme_passthru_start()
 * @ctrl: controller that gets the command
 * @ns: namespace of an I/O command, whose request is allocated, or NULL
 * @effects: of the command
 *
 * When this returns no command that was judged by a format that @effects can
 * change is in flight on any controller of the NVM subsystem, and none gets in
 * before nvme_ng_effects_end().  An I/O command cannot wait for its own queue:
 * from here on the format of its namespace is not known, but what is in flight
 * stays there.
 *
 * Only queues of controllers whose commands are judged here are frozen.
 *
 * For an admin command &nvme_subsystem.lock is held from here to
 * nvme_ng_effects_end(), unless nvme_passthru_start() has it already, so that no
 * namespace comes or goes.
 */
void nvme_ng_effects_begin(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
			   unsigned int effects)
{
	struct nvme_subsystem *subsys = ctrl->subsys;
	struct nvme_ns_head *head;
	struct nvme_ns *other;

	if (!nvme_ng_changes_format(effects))
		return;
	if (ns) {
		nvme_ng_forget_head(ns->head, false);
		return;
	}
	if (!(effects & NVME_CMD_EFFECTS_CSE_MASK))
		mutex_lock(&subsys->lock);
	list_for_each_entry(head, &subsys->nsheads, entry)
		list_for_each_entry(other, &head->list, siblings)
			if (nvme_ng_is_direct(other->ctrl))
				nvme_ng_freeze_start(other->queue);
	list_for_each_entry(head, &subsys->nsheads, entry)
		list_for_each_entry(other, &head->list, siblings)
			if (nvme_ng_is_direct(other->ctrl))
				blk_mq_freeze_queue_wait(other->queue);
	nvme_ng_forget_formats(subsys, true);
}

/**
 * nvme_ng_effects_end - part of nvme_passthru_end(), which comes first
 * @ctrl: as for nvme_ng_effects_begin()
 * @ns: the same; its request has been freed
 * @effects: the same
 *
 * Formats are unknown until a controller of the NVM subsystem has scanned its
 * namespaces, for which this asks.
 */
void nvme_ng_effects_end(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
			 unsigned int effects)
{
	struct nvme_subsystem *subsys = ctrl->subsys;
	struct nvme_ns_head *head;
	struct nvme_ns *other;

	if (!nvme_ng_changes_format(effects))
		return;
	if (ns) {
		nvme_ng_forget_head(ns->head, true);
		return;
	}
	nvme_ng_forget_formats(subsys, false);
	list_for_each_entry(head, &subsys->nsheads, entry)
		list_for_each_entry(other, &head->list, siblings) {
			nvme_queue_scan(other->ctrl);
			if (nvme_ng_is_direct(other->ctrl))
				nvme_ng_unfreeze(other->queue);
		}
	if (!(effects & NVME_CMD_EFFECTS_CSE_MASK))
		mutex_unlock(&subsys->lock);
}

/**
 * nvme_ng_judges - are formats of a controller's NVM subsystem kept here
 * @ctrl: a controller whose commands take the way of the stock driver
 *
 * Process context, sleeps.
 */
bool nvme_ng_judges(struct nvme_ctrl *ctrl)
{
	struct nvme_ns_head *head;
	struct nvme_ns *ns;
	bool found = false;

	mutex_lock(&ctrl->subsys->lock);
	list_for_each_entry(head, &ctrl->subsys->nsheads, entry)
		list_for_each_entry(ns, &head->list, siblings)
			found |= nvme_ng_is_direct(ns->ctrl);
	mutex_unlock(&ctrl->subsys->lock);
	return found;
}
