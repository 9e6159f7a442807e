"""Words by which columns, values and pictures beside slides are recognised: English and German, as hospitals export them."""

import re
import unicodedata

from wsi_mil.cohort.columns import POSSIBLE_SYNONYMS, SYNONYMS
from wsi_mil.cohort.values import MISSING_MARKS, UNKNOWN


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


PICTURES = word_set(
    "label labels macro macros thumb thumbs thumbnail thumbnails thumbnailimage overview overviews preview previews snapshot"
    " snapshots barcode mask masks overlay overlays heatmap heatmaps labelimage macroimage associated"
)
"""Words in the name of a picture of a slide that is no slide."""

MISSING = (
    MISSING_MARKS
    | frozenset(UNKNOWN)
    | word_set("k.a. k.a n.v. n.b. unbekannt fehlt fehlend '-- nd n.d. notreported -- ---")
    | {"k. a.", "keine angabe", "nicht bekannt", "nicht verfügbar", "nicht bestimmt", "nicht erhoben", "not evaluated"}
    | {"not available", "not reported", "not applicable", "not known", "not done"}
    | {"[not available]", "[not applicable]", "[unknown]", "[discrepancy]", "[completed]", "[not evaluated]"}
)
"""Cells, in lower case, that say that a value is missing."""

PATIENT_NAMES = word_set(SYNONYMS["patient_id"] + " patientid " + POSSIBLE_SYNONYMS["patient_id"]) | word_set(
    "patientenid patientennummer patientennr patnr pat patno patnummer fall fallnummer fallnr fallid pseudonym pseudonymid"
    " studienid studienummer studiennummer studyid studyno studynumber recordid hospitalnumber usubjid subjid probandenid"
)
PATIENT_PARTS = word_set("id no nr nummer number num code key uid uuid name barcode pseudonym ids")
SLIDE_NAMES = word_set(f"{SYNONYMS['slide_id']} slideid {SYNONYMS['path']} path") | word_set(
    "schnitt schnittid schnittnummer schnittnr slidebarcode slidenumber slideno slidenr imagename scan scanid scanname datei"
    " dateiname dateipfad bild bildname wsifilename wsiname svs svsfile specimen block blockid blocknr"
)

LABELS = word_set(
    "label class classes target diagnosis diagnose outcome category groundtruth truth y subtype subtyp subtypes histology"
    " histologie histotype befund dignitat dignity entitat malignancy malignitat malignant tumor tumour tumors tumours tumortyp"
    " tumortype tumourtype cancer cancertype carcinoma karzinom klasse gruppe kategorie typ"
)
"""Words in the names of columns that are what a study is about."""

ENDPOINTS = word_set(
    "msi mss msih mmr cms msistatus mutation mutated mut mutant mutiert response responder ansprechen remission pcr"
    " recurrence recurred"
    " relapse rezidiv metastasis metastases metastase metastasen metastatic progression grade grading g stage stadium staging"
    " gleason isup er pr her2 hpv ebv tnbc invasion risk risiko amplification expression status ajcc uicc pt pn pm"
    " nodal lymphknoten molecular lvi pni"
)
"""Words in the names of columns that are often asked of slides."""

MEASURES = word_set("tmb ki67 ki score purity til tils hrd percent percentage anteil prozent index signature burden cellularity")
"""Words in the names of columns whose numbers are often asked of slides."""

COVARIATES = word_set(
    "age alter female male women men weiblich mannlich oncotree train"
    " test val split fold sex gender geschlecht birth birthday geburt geburtsdatum geburtsjahr dob race ethnicity bmi"
    " height weight grosse"
    " gewicht smoker smoking raucher rauchen alcohol alkohol site center centre zentrum hospital klinik clinic ward station"
    " scanner institution institute side seite laterality lateralitat year jahr date datum consent einwilligung insurance"
    " versicherung therapy therapie treatment chemo chemotherapy radiation radiotherapy bestrahlung surgeon operateur pathologist"
    " pathologe technician stain farbung block blocks batch charge plz zip city ort country land name vorname nachname firstname"
    " lastname comment kommentar bemerkung note notes anmerkung nr no number nummer id icd icd10 code version menopausal"
    " menopause ecog asa karnofsky diabetes hypertension hypertonie family familie familienanamnese occupation beruf marital"
    " blood blut hb leukocytes leukozyten thrombozyten creatinine kreatinin ldh crp cea tissue gewebe tissuesource biobank"
    " quality qualitat uuid barcode form timestamp zeitstempel mpp magnification vergrosserung room bed days tage"
    " study studie arm cohort kohorte project projekt aufnahme entlassung anzahl count size durchmesser diameter"
)
"""Words in the names of columns that describe the patient, the hospital or the scan; targets only if somebody says so."""

NEGATIVE = word_set(
    "0 no nein n false falsch neg negative negativ normal benign benigne gutartig wt wildtype wild-type unmutated nicht_mutiert"
    " mss pmmr healthy gesund control kontrolle absent low niedrig none keine kein non-responder nonresponder no_response nr"
    " non-tumor non-tumour nontumor nontumour no_tumor no_tumour kein_tumor tumorfrei tumour-free tumor-free n0 m0 r0 alive"
    " living microsatellite_stable msi-l stable intact proficient unaffected not_mutated no_recurrence no_metastasis"
)
POSITIVE = word_set(
    "1 yes ja y j true wahr pos positive positiv tumor tumour cancer carcinoma krebs karzinom malignant maligne bosartig mut"
    " mutated mutant mutiert msi msi-h msih dmmr case fall diseased present high hoch responder response m1 n+ dead deceased"
    " metastasis metastatic metastase recurrence relapse rezidiv unstable deficient affected abnormal lesion"
    " microsatellite_instable"
)
"""Values, in lower case, of which one is the negative and the other the positive class."""

YES_NO = word_set("0 1 no yes nein ja n y j true false wahr falsch")
"""Values that do not show what a column is about."""

ORDERS = (
    ("low", "intermediate", "high"),
    ("low", "medium", "high"),
    ("low", "moderate", "high"),
    ("niedrig", "mittel", "hoch"),
    ("mild", "moderate", "severe"),
    ("well", "moderate", "poor"),
    ("gut", "massig", "schlecht"),
    ("normal", "benign", "malignant"),
    ("small", "medium", "large"),
    ("sd", "pr", "cr"),
    ("pd", "sd", "pr", "cr"),
)
"""Values whose order is not that of the alphabet."""

MARKERS = word_set(
    "er pr her2 ar erbb2 tp53 p53 kras nras braf egfr alk ros1 pik3ca pten apc smad4 idh1 idh2 atrx brca1 brca2 pdl1 stk11 keap1"
    " met ret ntrk mlh1 msh2 msh6 pms2 cdkn2a rb1 myc ctnnb1 fgfr2 fgfr3 nf1 arid1a pole cd3 cd8 cd20 p16 p40 ttf1 ck7 ck20"
    " cdx2 gata3 vhl pbrm1 bap1 setd2 tert notch1 kmt2d kit pdgfra spop erg"
)
"""Genes and stains whose columns of 0 and 1 belong together."""

TCGA = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}", re.IGNORECASE)
"""Barcode of a patient."""

_CAMEL = re.compile(r"(?<=[a-zäöüß])(?=[A-ZÄÖÜ])|(?<=[A-Z])(?=[A-Z][a-z])")


def without_accents(text: str) -> str:
    """Return text with its letters without accents."""
    decomposed = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("ẞ", "SS"))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def folded(text: str) -> str:
    """Return text in lower case, without accents."""
    return without_accents(text).casefold()


def words(name: str) -> list[str]:
    """Return the words of a name, folded: `OS_Monate (ab OP)` → os, monate, ab, op."""
    return re.findall(r"[a-z0-9]+", folded(_CAMEL.sub(" ", name)))


def squeezed(name: str) -> str:
    """Return a name folded, without anything but letters and digits."""
    return re.sub(r"[^a-z0-9]", "", folded(name))


def value_key(text: str) -> str:
    """Return a value in the spelling of the lists of values above."""
    return re.sub(r"\s+", "_", folded(text.strip()))


def names_patients(column: str) -> bool:
    """Return whether a column is one of patients by its name."""
    own = words(column)
    is_patient = own[:1] in (["patient"], ["patienten"], ["pat"], ["patients"]) and set(own[1:]) <= PATIENT_PARTS
    return squeezed(column) in PATIENT_NAMES or is_patient


def names_slides(column: str) -> bool:
    """Return whether a column is one of slides or their files by its name."""
    return squeezed(column) in SLIDE_NAMES


def is_missing(text: str) -> bool:
    """Return whether a cell is empty, or says that its value is missing."""
    return not text or text.casefold().strip() in MISSING


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts S2 before S10."""
    parts = re.findall(r"\d+|\D+", folded(text))
    return [(0, int(part), "") if part.isdigit() and part.isascii() else (1, 0, part) for part in parts]
